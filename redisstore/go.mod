module github.com/jwtrenew/renew/redisstore

go 1.25.0

require (
	github.com/jwtrenew/renew v0.1.0-rc
	github.com/redis/go-redis/v9 v9.21.0
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/go-jose/go-jose/v4 v4.1.9 // indirect
	github.com/oklog/ulid/v2 v2.1.2 // indirect
	go.uber.org/atomic v1.11.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)

replace github.com/jwtrenew/renew => ../
