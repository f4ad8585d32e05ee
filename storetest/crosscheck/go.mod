module github.com/jwtrenew/renew/storetest/crosscheck

go 1.25.0

replace github.com/jwtrenew/renew => ../../

require (
	github.com/anishathalye/porcupine v1.3.1
	github.com/jwtrenew/renew v0.1.0-rc
)
