// Package js has the client of [httpadapter.NewBrowser] for pages, built: an
// ECMAScript module without dependencies, the same as the npm package
// @jwtrenew/browser. Its source is src/index.ts.
//
// [httpadapter.NewBrowser]: https://pkg.go.dev/github.com/jwtrenew/renew/httpadapter#NewBrowser
package js

import _ "embed"

//go:embed dist/index.js
var client string

// Client returns the text of the module, to be served as text/javascript.
func Client() string { return client }
