package dynamostore_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go/middleware"
	"github.com/stretchr/testify/require"
)

// quickRetries has the SDK repeat what it repeats by default, without long pauses.
func quickRetries(o *dynamodb.Options) {
	o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = 5e6 })
}

// lossy passes requests on to a server. In the place of the response that it is told to
// lose it closes the connection: the server has done what the client asked for, and the
// client does not know.
type lossy struct {
	*httptest.Server

	mu       sync.Mutex
	seen     int
	lose     int    // the response of this number, from 0; below: none
	between  func() // called after the server has responded, before the loss
	lost     atomic.Bool
	requests []string
}

func newLossy(tb testing.TB, server string, lose int) *lossy {
	tb.Helper()
	target, err := url.Parse(server)
	require.NoError(tb, err)
	p := &lossy{lose: lose}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ModifyResponse = func(res *http.Response) error {
		p.mu.Lock()
		n := p.seen
		p.seen++
		p.requests = append(p.requests, res.Request.Header.Get("X-Amz-Target"))
		p.mu.Unlock()
		if n != p.lose {
			return nil
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		if p.between != nil {
			p.between()
		}
		p.lost.Store(true)
		panic(http.ErrAbortHandler)
	}
	p.Server = httptest.NewServer(proxy)
	tb.Cleanup(p.Close)
	return p
}

// through has a client use the proxy from now on, counted from 0.
func (p *lossy) through(o *dynamodb.Options) { o.BaseEndpoint = &p.URL }

// around is the HTTP client of an SDK, with f around each request.
type around struct {
	f func(req *http.Request, send func() (*http.Response, error)) (*http.Response, error)
}

func (a around) Do(req *http.Request) (*http.Response, error) {
	return a.f(req, func() (*http.Response, error) { return http.DefaultClient.Do(req) })
}

// watching has f see the input of every request, and its output.
func watching(before func(in any), after func(out any)) func(*dynamodb.Options) {
	return func(o *dynamodb.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("watching",
				func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
					before(in.Parameters)
					out, metadata, err := next.HandleInitialize(ctx, in)
					after(out.Result)
					return out, metadata, err
				}), middleware.Before)
		})
	}
}

func (a around) option(o *dynamodb.Options) { o.HTTPClient = a }

// clear empties the table.
func (b *backend) clear(tb testing.TB) {
	tb.Helper()
	client, ctx := b.client(tb), context.Background()
	for _, item := range b.scan(tb) {
		_, err := client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &b.table, Key: row{"pk": item["pk"], "sk": item["sk"]}})
		require.NoError(tb, err)
	}
}
