# The few commands that people type. Everything that must hold is .ci/run.

.PHONY: test race lint ci run bench tidy

test: ## every test of every module
	go test work

race: ## the same, with the race detector
	go test -race -shuffle=on -timeout 30m work

lint: ## format, vet and the linters
	.ci/run format vet staticcheck golangci

ci: ## everything that must hold before a change lands
	.ci/run

run: ## an API with the library built in
	go run ./examples/server

bench: ## a renewal against its budget
	go run ./bench -only limit

tidy: ## go.mod, go.sum and go.work.sum after a change of dependencies
	.ci/tidy
