package redisstore

import (
	"fmt"
	"hash/crc32"
	"strconv"
)

// shards is how many hash tags sessions are spread over. A session and the index of
// ends that names it have the same tag, so that they are in one slot of a cluster and
// change in one step. The number is part of what is stored.
const shards = 1024

// names are those of the keys in Redis. A part that comes from outside has its
// length before it, so that no two names are alike.
type names struct{ prefix string }

// member names a session inside its shard.
func member(appID, sessionID string) string { return sized(appID) + ":" + sessionID }

func sized(text string) string { return strconv.Itoa(len(text)) + ":" + text }

func shardOf(member string) int { return int(crc32.ChecksumIEEE([]byte(member)) % shards) }

// session is the key of a session, a hash.
func (n names) session(member string) string {
	return fmt.Sprintf("%s{%03x}:session:%s", n.prefix, shardOf(member), member)
}

// ends is the key of a shard's index of ends, a sorted set: the score of a member is
// when the session ends, in milliseconds.
func (n names) ends(shard int) string { return fmt.Sprintf("%s{%03x}:ends", n.prefix, shard) }

// deleted is the key of what the last call that deleted sessions of a shard returned.
// It goes by itself after some seconds.
func (n names) deleted(shard int) string { return fmt.Sprintf("%s{%03x}:deleted", n.prefix, shard) }

// subject is the key of a subject's index, a hash: its fields are session IDs. What
// it has of a session is an entry, a new one each time that it is written.
func (n names) subject(appID, subject string) string {
	return n.prefix + "{" + sized(appID) + ":" + subject + "}:subject"
}

// app is the key of an app, a hash.
func (n names) app(appID string) string { return n.prefix + "{" + sized(appID) + "}:app" }

// apps is the key of the set of app IDs.
func (n names) apps() string { return n.prefix + "apps" }
