// Package ncruces tests sqlstore with the driver ncruces/go-sqlite3, which cannot be
// linked beside mattn/go-sqlite3.
package ncruces
