package dynamostore

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

// URLForm is what [NewClient] takes, for the help of a flag.
const URLForm = "dynamodb://TABLE"

// ErrURL means that a URL is malformed. The error that wraps it holds no part of the
// URL.
var ErrURL = errors.New("malformed DynamoDB URL")

var validTable = regexp.MustCompile(`^[A-Za-z0-9_.-]{3,255}$`)

// NewClient returns a client for a URL, and the name of the table, for programs that
// are told by a flag or a variable where the stores are. It sends nothing.
//
//	dynamodb://TABLE?region=REGION&profile=PROFILE&endpoint=URL
//
// The table must exist, see [CreateTable]. What is left out comes from where the SDK
// looks for it: the environment (AWS_REGION, AWS_ACCESS_KEY_ID, …), the files in
// ~/.aws, or the role of the machine; credentials are never in the URL. The endpoint
// is that of an emulator, or of a private link. Any other option is an error.
func NewClient(ctx context.Context, dynamoURL string) (client *dynamodb.Client, table string, err error) {
	u, err := url.Parse(dynamoURL)
	if err != nil || u.Scheme != "dynamodb" || u.User != nil || u.Path != "" && u.Path != "/" || u.Fragment != "" || !validTable.MatchString(u.Host) {
		return nil, "", fmt.Errorf("%w: it is not %s, with a name of 3 to 255 letters, digits and any of \"_.-\"", ErrURL, URLForm)
	}
	options, endpoint, err := urlOptions(u.RawQuery)
	if err != nil {
		return nil, "", err
	}
	c, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, "", fmt.Errorf("dynamostore.NewClient: %w", err)
	}
	if c.Region == "" {
		return nil, "", fmt.Errorf("%w: it has no region, and the environment (AWS_REGION) names none", ErrURL)
	}
	return dynamodb.NewFromConfig(c, func(o *dynamodb.Options) {
		if endpoint != "" {
			o.BaseEndpoint = aws.String(endpoint)
		}
	}), u.Host, nil
}

// urlOptions reads what follows the "?".
func urlOptions(rawQuery string) (options []func(*awsconfig.LoadOptions) error, endpoint string, err error) {
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return nil, "", fmt.Errorf("%w: its options are malformed", ErrURL)
	}
	for name, values := range query {
		if len(values) != 1 || values[0] == "" {
			return nil, "", fmt.Errorf("%w: an option is empty, or is there twice", ErrURL)
		}
		switch name {
		case "region":
			options = append(options, awsconfig.WithRegion(values[0]))
		case "profile":
			options = append(options, awsconfig.WithSharedConfigProfile(values[0]))
		case "endpoint":
			endpoint = values[0]
			if u, err := url.Parse(endpoint); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
				return nil, "", fmt.Errorf("%w: its endpoint is not a URL of http or https", ErrURL)
			}
		default:
			return nil, "", fmt.Errorf("%w: it has an option that is not region, profile or endpoint", ErrURL)
		}
	}
	return options, endpoint, nil
}
