package storeurl

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/keycrypt"
	"github.com/jwtrenew/renew/redisstore"
)

func openRedis(ctx context.Context, url, encryptionKey string) (*Stores, error) {
	encrypter, err := encrypter(encryptionKey)
	if err != nil {
		return nil, err
	}
	client, err := redisstore.NewClient(url)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	s, err := redisStores(ctx, client, encrypter)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return s, nil
}

func redisStores(ctx context.Context, client redis.UniversalClient, encrypter keycrypt.Encrypter) (*Stores, error) {
	keys, err := redisstore.NewKeyStore(ctx, client, encrypter)
	if err != nil {
		return nil, err
	}
	tokens, err := redisstore.NewTokenStore(ctx, client)
	if err != nil {
		return nil, err
	}
	return &Stores{
		Keys: keys, Tokens: tokens,
		Ahead: renew.AheadAdopted, Diagnosis: tokens.Diagnosis(), DeleteEvery: often,
		close: client.Close,
	}, nil
}
