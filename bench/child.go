//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
)

// A child is this program in another process: a server, whose CPU time and
// heap are not its clients'. It serves the documented endpoint, and questions
// under /bench/.

// childVariable holds the configuration of a child, as JSON.
const childVariable = "RENEW_BENCH_CHILD"

type childConfig struct {
	Load *loadConfig // a client; nil: a server
	Kind storeKind
	DSN  string
	Live int // live sessions to begin with; at most keptSessions of them are renewed
}

// keptSessions is how many sessions of a server's are renewed.
const keptSessions = 1000

// child is a server that runs.
type child struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	url    string
	appKey string
}

// startChild starts a server and returns when it has its sessions. env is added
// to its environment, such as oneCore.
func startChild(ctx context.Context, config childConfig, env ...string) (*child, error) {
	cmd, err := childCommand(ctx, config, env...)
	if err != nil {
		return nil, err
	}
	stdin, err := cmd.StdinPipe() // the child ends when this closes
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{cmd: cmd, stdin: stdin}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		c.stop()
		return nil, fmt.Errorf("the server does not start: %w", err)
	}
	address, appKey, _ := strings.Cut(strings.TrimSpace(line), " ")
	c.url, c.appKey = "http://"+address, appKey
	return c, nil
}

// oneCore has a child run on one core at a time.
const oneCore = "GOMAXPROCS=1"

func childCommand(ctx context.Context, config childConfig, env ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(append(os.Environ(), env...), childVariable+"="+string(encoded))
	cmd.Stderr = os.Stderr
	return cmd, nil
}

func (c *child) stop() {
	c.stdin.Close()
	_ = c.cmd.Wait() // how it ended says nothing about what was measured
}

// ask has the server reply to a question under /bench/.
func (c *child) ask(ctx context.Context, question string, reply any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/bench/"+question, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", question, body)
	}
	return json.Unmarshal(body, reply)
}

func (c *child) usage(ctx context.Context) (u usage, err error) {
	err = c.ask(ctx, "usage", &u)
	return u, err
}

// login starts a session, to be renewed over the socket.
func (c *child) login(ctx context.Context) (renewal, error) {
	return c.loginAt(ctx, "/app/"+appID+"/renew")
}

func (c *child) loginAt(ctx context.Context, path string) (renewal, error) {
	var token string
	if err := c.ask(ctx, "login", &token); err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{}} // its own connection, kept alive
	return func(ctx context.Context) error {
		next, err := post(ctx, client, c.url+path, c.appKey, token)
		if err == nil {
			token = next
		}
		return err
	}, nil
}

// post renews as the documentation says, and returns the new refresh token.
func post(ctx context.Context, client *http.Client, url, appKey, token string) (string, error) {
	body, err := json.Marshal(map[string]string{"refresh_token": token, "ip": ip, "useragent": userAgent})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", appKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	response, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	var bundle renew.Bundle
	if err := json.Unmarshal(response, &bundle); err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("renewal over HTTP: status %d, %s", resp.StatusCode, response)
	}
	return bundle.RefreshToken, nil
}

// runChild is a child's main function.
func runChild(ctx context.Context, encoded string) error {
	var config childConfig
	if err := json.Unmarshal([]byte(encoded), &config); err != nil {
		return err
	}
	if config.Load != nil {
		return config.Load.run(ctx)
	}
	s, err := newServer(ctx, config)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent has ended
		os.Exit(0)
	}()
	fmt.Println(listener.Addr(), s.backend.appKey)
	return http.Serve(listener, s.handler()) //nolint:gosec // loopback, and for as long as a measurement
}

// server is what a child serves.
type server struct {
	backend  *backend
	renewer  *renew.Renewer
	limit    renewal
	response []byte    // of a renewal
	perItem  int64     // bytes per session
	kept     []renewal // sessions to renew, in random order
	next     int
}

func newServer(ctx context.Context, config childConfig) (*server, error) {
	b, err := openBackend(ctx, config.Kind, config.DSN)
	if err != nil {
		return nil, err
	}
	s := &server{backend: b}
	if s.renewer, err = renew.New(b.keys, b.tokens); err != nil {
		return nil, err
	}
	limit, err := limitOf(renew.ES256)
	if err != nil {
		return nil, err
	}
	if s.limit, err = limit.login(ctx); err != nil {
		return nil, err
	}
	bundle, err := s.renewer.Issue(ctx, issueRequest(0))
	if err != nil {
		return nil, err
	}
	if s.response, err = json.Marshal(bundle); err != nil {
		return nil, err
	}
	return s, s.fill(ctx, config.Live)
}

// fill stores live sessions. Those that will be renewed are spread among them.
func (s *server) fill(ctx context.Context, live int) error {
	if live == 0 {
		return nil
	}
	before, err := s.backend.engine.size(ctx)
	if err != nil {
		return err
	}
	kept := min(live, keptSessions)
	for range kept {
		bundle, err := s.renewer.Issue(ctx, issueRequest(0))
		if err != nil {
			return err
		}
		s.kept = append(s.kept, s.renewing(bundle))
		if err := s.backend.multiply(ctx, bundle.SessionID, live/kept-1); err != nil {
			return err
		}
	}
	if err := s.backend.engine.settle(ctx); err != nil {
		return err
	}
	after, err := s.backend.engine.size(ctx)
	s.perItem = (after - before) / int64(live)
	rand.Shuffle(len(s.kept), func(i, j int) { s.kept[i], s.kept[j] = s.kept[j], s.kept[i] })
	return err
}

func (s *server) renewing(bundle *renew.Bundle) renewal {
	token := bundle.RefreshToken
	return func(ctx context.Context) error {
		next, err := s.renewer.Renew(ctx, renew.RenewRequest{AppID: appID, RefreshToken: token, IP: ip, UserAgent: userAgent})
		if err == nil {
			token = next.RefreshToken
		}
		return err
	}
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/app/", httpadapter.New(s.renewer))
	mux.HandleFunc("/bench/bare", s.bare)
	for question, reply := range map[string]func(*http.Request) (any, error){
		"usage":      func(req *http.Request) (any, error) { return ownUsage(req.Context()) },
		"login":      s.login,
		"limit":      s.measureLimit,
		"block":      s.block,
		"bytes":      func(*http.Request) (any, error) { return s.perItem, nil },
		"statements": func(req *http.Request) (any, error) { return s.backend.engine.statements(req.Context(), s.backend) },
		"age":        s.age,
	} {
		mux.HandleFunc("/bench/"+question, func(w http.ResponseWriter, req *http.Request) {
			value, err := reply(req)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_ = json.NewEncoder(w).Encode(value) // the parent notices what is missing
		})
	}
	return mux
}

func (s *server) login(req *http.Request) (any, error) {
	bundle, err := s.renewer.Issue(req.Context(), issueRequest(0))
	if err != nil {
		return nil, err
	}
	return bundle.RefreshToken, nil
}

// bare is what net/http leaves of the limit: a request and a response of the size
// of a renewal's, and nothing between them but the limit.
func (s *server) bare(w http.ResponseWriter, req *http.Request) {
	_, err := io.Copy(io.Discard, req.Body)
	if err := errors.Join(err, s.limit(req.Context())); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(s.response) // the client notices
}

// measureLimit reaches the limit n times.
func (s *server) measureLimit(req *http.Request) (any, error) {
	n, err := number(req)
	if err != nil {
		return nil, err
	}
	c := &contender{system: system{usage: ownUsage}, sessions: []renewal{s.limit}, each: n}
	if err := c.run(req.Context()); err != nil {
		return nil, err
	}
	return work{Wall: c.samples[0].wall, CPU: c.samples[0].cpu}, nil
}

// work is what one of something took, in nanoseconds.
type work struct{ Wall, CPU float64 }

// block renews n sessions, one after the other, and returns how long each took
// in nanoseconds.
func (s *server) block(req *http.Request) (any, error) {
	n, err := number(req)
	if err != nil {
		return nil, err
	}
	took := make([]float64, n)
	for i := range took {
		began := time.Now()
		if err := s.kept[s.next](req.Context()); err != nil {
			return nil, err
		}
		took[i] = float64(time.Since(began))
		s.next = (s.next + 1) % len(s.kept)
	}
	return took, nil
}

// aged is a store before and after its sessions were renewed many times.
type aged struct {
	Before, After int64   // bytes
	Young, Old    float64 // median of the first and of the last tenth, in nanoseconds
}

// age renews one session n times.
func (s *server) age(req *http.Request) (any, error) {
	n, err := number(req)
	if err != nil {
		return nil, err
	}
	ctx := req.Context()
	if err := s.backend.engine.settle(ctx); err != nil {
		return nil, err
	}
	took := make([]float64, n) // on the heap before it is measured
	var a aged
	if a.Before, err = s.backend.engine.size(ctx); err != nil {
		return nil, err
	}
	for i := range took {
		began := time.Now()
		if err := s.kept[0](ctx); err != nil {
			return nil, err
		}
		took[i] = float64(time.Since(began))
	}
	if err := s.backend.engine.settle(ctx); err != nil {
		return nil, err
	}
	if a.After, err = s.backend.engine.size(ctx); err != nil {
		return nil, err
	}
	tenth := max(1, n/10)
	a.Young, a.Old = median(took[:tenth]), median(took[n-tenth:])
	return a, nil
}

func number(req *http.Request) (n int, err error) {
	if _, err := fmt.Sscan(req.URL.Query().Get("n"), &n); err != nil || n < 1 {
		return 0, errors.New("n is not a positive number")
	}
	return n, nil
}
