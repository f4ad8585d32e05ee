package storeurl

import (
	"context"
	"errors"
	"fmt"

	"github.com/jwtrenew/renew/dynamostore"
)

func openDynamoDB(ctx context.Context, url, encryptionKey string) (*Stores, error) {
	encrypter, err := encrypter(encryptionKey)
	if err != nil {
		return nil, err
	}
	client, table, err := dynamostore.NewClient(ctx, url)
	if errors.Is(err, dynamostore.ErrURL) {
		return nil, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	if err != nil {
		return nil, err
	}
	keys, err := dynamostore.NewKeyStore(ctx, client, table, encrypter)
	if err != nil {
		return nil, err
	}
	tokens, err := dynamostore.NewTokenStore(ctx, client, table)
	if err != nil {
		return nil, err
	}
	return &Stores{Keys: keys, Tokens: tokens, Diagnosis: tokens.Diagnosis(), DeleteEvery: seldom}, nil
}
