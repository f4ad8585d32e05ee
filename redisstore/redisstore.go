// Package redisstore keeps apps, keys and sessions in Redis.
package redisstore
