package httpadapter

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unicode"
)

// browserConfig is what the options of [NewBrowser] set.
type browserConfig struct {
	cookieName     string
	cookiePath     string
	sameSite       http.SameSite
	localhost      bool // plain http, on this machine only
	origins        []string
	trustedProxies []netip.Prefix
	now            func() time.Time
	crossOrigin    *http.CrossOriginProtection
}

// WithCookie sets the name and the path of the cookie of [NewBrowser]. Default:
// __Host-renew and /. Apps on one host need a name each. The prefix __Host- demands
// the path /, and keeps other hosts of the same domain from setting the cookie;
// __Secure- allows any path. The path must be a prefix of that of the handler.
func WithCookie(name, path string) Option {
	return browserOption("WithCookie", func(config *browserConfig) error {
		if err := (&http.Cookie{Name: name, Path: path}).Valid(); err != nil {
			return fmt.Errorf("%q and %q are not the name and the path of a cookie", name, path)
		}
		if !strings.HasPrefix(path, "/") {
			return fmt.Errorf("the path %q does not begin with /", path)
		}
		if strings.HasPrefix(strings.ToLower(name), hostPrefix) && path != "/" {
			return fmt.Errorf("a name with the prefix __Host- demands the path /, not %q: use the prefix __Secure-", path)
		}
		config.cookieName, config.cookiePath = name, path
		return nil
	})
}

// WithSameSiteLax makes the cookie of [NewBrowser] SameSite=Lax. Default: Strict.
// With Strict, a page that the user reaches by a link on another site is loaded
// without the cookie; what its scripts send afterwards has it. Lax is for pages
// that the server renders for a signed-in user.
func WithSameSiteLax() Option {
	return browserOption("WithSameSiteLax", func(config *browserConfig) error {
		config.sameSite = http.SameSiteLaxMode
		return nil
	})
}

// WithTrustedOrigins lets pages of these origins use [NewBrowser], such as
// https://app.example.com where it is on https://api.example.com. Default: only
// pages of the handler's origin. They can renew, log out and read the responses, so
// that they must be yours. They have to be of the same site as the handler: a
// browser sends a SameSite cookie to no other. An origin is on https, or on this
// machine, and is written as browsers send it: in lower case, an international name
// in its ASCII form (xn--…), without the scheme's own port.
func WithTrustedOrigins(origins ...string) Option {
	return browserOption("WithTrustedOrigins", func(config *browserConfig) error {
		for _, origin := range origins {
			u, err := url.Parse(origin)
			if err != nil || u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())) {
				return fmt.Errorf("%q is not an origin with https", origin)
			}
			if err := http.NewCrossOriginProtection().AddTrustedOrigin(origin); err != nil {
				return err
			}
			if origin != asSent(u) {
				return fmt.Errorf("%q is not written as browsers send it, such as https://app.example.com", origin)
			}
		}
		config.origins = append(config.origins, origins...)
		return nil
	})
}

// asSent returns the origin of a URL as browsers write it (RFC 6454 section 6.2). It
// is empty for an international name, whose ASCII form is the caller's to find.
func asSent(u *url.URL) string {
	host := strings.ToLower(u.Host)
	if strings.ContainsFunc(host, func(r rune) bool { return r > unicode.MaxASCII }) {
		return ""
	}
	if port := u.Port(); port == "" || port == map[string]string{"https": "443", "http": "80"}[u.Scheme] {
		host = strings.TrimSuffix(host, ":"+port)
	}
	return u.Scheme + "://" + host
}

// WithInsecureLocalhost makes [NewBrowser] work over plain http on this machine,
// for development: the cookie is not Secure, its name has no __Host-, __Secure- or
// __Http- prefix, and requests for a host other than localhost or a loopback address are
// rejected. Default: requests of pages on plain http are rejected.
func WithInsecureLocalhost() Option {
	return browserOption("WithInsecureLocalhost", func(config *browserConfig) error {
		config.localhost = true
		return nil
	})
}

// WithTrustedProxies names the proxies whose X-Forwarded-For [NewBrowser]
// believes: see [ClientIP]. Default: none.
func WithTrustedProxies(proxies ...netip.Prefix) Option {
	return browserOption("WithTrustedProxies", func(config *browserConfig) error {
		for _, proxy := range proxies {
			if !proxy.IsValid() {
				return errors.New("a prefix is not valid")
			}
		}
		config.trustedProxies = append(config.trustedProxies, proxies...)
		return nil
	})
}

// WithClock sets what [NewBrowser] and [SetSession] take for the present time,
// where the Renewer has [renew.WithClock]. Default: [time.Now].
func WithClock(now func() time.Time) Option {
	return browserOption("WithClock", func(config *browserConfig) error {
		if now == nil {
			return errors.New("the function is nil; leave the option out for time.Now")
		}
		config.now = now
		return nil
	})
}

// browserOption returns an option of [NewBrowser] and [SetSession].
func browserOption(name string, apply func(*browserConfig) error) Option {
	return func(a *adapter) error {
		if a.browser == nil {
			return fmt.Errorf("%s: it is for NewBrowser and SetSession", name)
		}
		if err := apply(a.browser); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}
}

// newBrowser applies the options. What is wrong with them is its err.
func newBrowser(opts []Option) *Browser {
	config := &browserConfig{
		cookieName:  "__Host-renew",
		cookiePath:  "/",
		sameSite:    http.SameSiteStrictMode,
		now:         time.Now,
		crossOrigin: http.NewCrossOriginProtection(),
	}
	b := &Browser{adapter: &adapter{logger: slog.Default(), browser: config}}
	b.err = b.apply(opts)
	if config.localhost {
		config.cookieName = withoutPrefix(config.cookieName)
	}
	for _, origin := range config.origins {
		b.err = errors.Join(b.err, config.crossOrigin.AddTrustedOrigin(origin))
	}
	return b
}

const (
	hostPrefix   = "__host-" // browsers know them in any case
	securePrefix = "__secure-"
	httpPrefix   = "__http-"
)

// withoutPrefix is a cookie's name that browsers take from plain http.
func withoutPrefix(name string) string {
	for _, prefix := range []string{hostPrefix, securePrefix, httpPrefix} {
		if strings.HasPrefix(strings.ToLower(name), prefix) {
			return name[len(prefix):]
		}
	}
	return name
}
