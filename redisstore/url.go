package redisstore

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/redis/go-redis/v9"
)

// URLForms are what [NewClient] takes, for the help of a flag.
const URLForms = "redis://…, rediss://…, redis+sentinel://…, redis+cluster://…"

// ErrURL means that a URL is malformed. The error that wraps it holds no part of the
// URL, in which there may be a password.
var ErrURL = errors.New("malformed Redis URL")

var errReadsReplicas = fmt.Errorf("%w: an option has the client read from replicas", ErrURL)

// NewClient returns a client for a URL, for programs that are told by a flag or a
// variable where Redis is. It opens no connection. Close it after the stores.
//
//	redis://USER:PASSWORD@HOST:PORT/DB
//	redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/MASTER/DB
//	redis+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT
//
// rediss, rediss+sentinel and rediss+cluster are the same over TLS. User, password,
// ports (6379; Sentinel's 26379) and DB may be left out. Of a Sentinel or a cluster,
// name several hosts: one of them must be up. After a "?" come options of go-redis,
// such as read_timeout=2s&pool_size=50, and sentinel_username and sentinel_password,
// which the Sentinels ask for. Any other option is an error, and so are those with
// which a client reads from replicas: see [NewTokenStore].
func NewClient(redisURL string) (redis.UniversalClient, error) {
	scheme, rest, _ := strings.Cut(redisURL, "://")
	secure, form, _ := strings.Cut(scheme, "+")
	if secure != "redis" && secure != "rediss" {
		return nil, fmt.Errorf("%w: it is not one of %s", ErrURL, URLForms)
	}
	switch form {
	case "":
		options, err := redis.ParseURL(redisURL)
		if err != nil {
			return nil, fmt.Errorf("%w: it is not redis://USER:PASSWORD@HOST:PORT/DB, or has an option that go-redis does not know", ErrURL)
		}
		return redis.NewClient(options), nil
	case "sentinel":
		return sentinelClient(secure, rest)
	case "cluster":
		return clusterClient(secure, rest)
	}
	return nil, fmt.Errorf("%w: it is not one of %s", ErrURL, URLForms)
}

// parts are those of a URL with several hosts, which net/url does not take.
type parts struct {
	user  *url.Userinfo
	hosts []string
	path  []string
	query url.Values
}

func split(rest, defaultPort string) (p parts, ok bool) {
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		u, err := url.Parse("redis://" + authority[:i] + "@host")
		if err != nil {
			return parts{}, false
		}
		p.user, authority = u.User, authority[i+1:]
	}
	for host := range strings.SplitSeq(authority, ",") {
		u, err := url.Parse("redis://" + host)
		if err != nil || u.Hostname() == "" || u.Host != host {
			return parts{}, false
		}
		port := u.Port()
		if port == "" {
			port = defaultPort
		}
		p.hosts = append(p.hosts, net.JoinHostPort(u.Hostname(), port))
	}
	u, err := url.Parse("redis://host" + tail)
	if err != nil || u.Fragment != "" {
		return parts{}, false
	}
	for name := range strings.SplitSeq(strings.Trim(u.Path, "/"), "/") {
		if name != "" {
			p.path = append(p.path, name)
		}
	}
	p.query, err = url.ParseQuery(u.RawQuery)
	return p, err == nil && !p.query.Has("addr") && !p.query.Has("master_name")
}

// url has the hosts and options as go-redis takes them.
func (p parts) url(scheme, path string) string {
	p.query["addr"] = p.hosts[1:]
	u := url.URL{Scheme: scheme, Host: p.hosts[0], Path: path, RawQuery: p.query.Encode()}
	return u.String()
}

func (p parts) credentials() (user, password string) {
	if p.user == nil {
		return "", ""
	}
	password, _ = p.user.Password()
	return p.user.Username(), password
}

func sentinelClient(secure, rest string) (redis.UniversalClient, error) {
	malformed := fmt.Errorf("%w: it is not %s+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/MASTER/DB, or has an option that go-redis does not know", ErrURL, secure)
	p, ok := split(rest, "26379")
	if !ok || len(p.path) < 1 || len(p.path) > 2 {
		return nil, malformed
	}
	user, password := p.query.Get("sentinel_username"), p.query.Get("sentinel_password")
	p.query.Del("sentinel_username")
	p.query.Del("sentinel_password")
	options, err := redis.ParseFailoverURL(p.url(secure, strings.Join(p.path[1:], "/")))
	if err != nil || options.Username != "" || options.Password != "" {
		return nil, malformed
	}
	options.MasterName = p.path[0]
	options.SentinelUsername, options.SentinelPassword = user, password
	options.Username, options.Password = p.credentials()
	if options.TLSConfig != nil {
		options.TLSConfig.ServerName = "" // each connection's own
	}
	if options.ReplicaOnly || options.RouteByLatency || options.RouteRandomly {
		return nil, errReadsReplicas
	}
	return redis.NewFailoverClient(options), nil
}

func clusterClient(secure, rest string) (redis.UniversalClient, error) {
	malformed := fmt.Errorf("%w: it is not %s+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT, or has an option that go-redis does not know", ErrURL, secure)
	p, ok := split(rest, "6379")
	if !ok || len(p.path) > 0 {
		return nil, malformed
	}
	options, err := redis.ParseClusterURL(p.url(secure, ""))
	if err != nil {
		return nil, malformed
	}
	options.Username, options.Password = p.credentials()
	if options.TLSConfig != nil {
		options.TLSConfig.ServerName = "" // each connection's own
	}
	if options.ReadOnly || options.RouteByLatency || options.RouteRandomly {
		return nil, errReadsReplicas
	}
	return redis.NewClusterClient(options), nil
}
