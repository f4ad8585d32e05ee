module github.com/jwtrenew/renew/examples

go 1.25.0

require (
	github.com/jwtrenew/renew v0.0.0
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/go-jose/go-jose/v4 v4.1.9 // indirect
	github.com/oklog/ulid/v2 v2.1.2 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)

replace github.com/jwtrenew/renew => ../
