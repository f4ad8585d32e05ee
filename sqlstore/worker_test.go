package sqlstore_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/sqlstore"
)

// workerVariable names the environment variable that makes the test binary a
// worker: a process of its own that a test may kill.
const workerVariable = "RENEW_SQLSTORE_WORKER"

// workers are what such a process can do; each returns its exit code.
var workers = map[string]func() int{
	"renew":   renewWorker,
	"migrate": migrateWorker,
}

// What a worker needs to know, in its environment.
const (
	workerDialect = "RENEW_SQLSTORE_WORKER_DIALECT"
	workerDriver  = "RENEW_SQLSTORE_WORKER_DRIVER"
	workerDSN     = "RENEW_SQLSTORE_WORKER_DSN"
	workerStrict  = "RENEW_SQLSTORE_WORKER_STRICT" // not empty: no retry window
)

// worker is a server in a process of its own. Requests go to its standard input
// and answers come from its standard output, a line of JSON each.
type worker struct {
	cmd *exec.Cmd

	write sync.Mutex
	input io.WriteCloser

	mu      sync.Mutex
	calls   map[int]chan workerAnswer
	last    int
	gone    bool
	reading sync.WaitGroup
}

type workerRequest struct {
	Call                  int
	Token, IdempotencyKey string
}

type workerAnswer struct {
	Call int
	answer
	Error          string
	Refused, Ahead bool
}

var errGone = errors.New("the server is gone")

func (d *database) workerCommand(tb testing.TB, work string, env ...string) *exec.Cmd {
	tb.Helper()
	binary, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(), workerVariable+"="+work,
		workerDialect+"="+string(d.dialect), workerDriver+"="+d.driver, workerDSN+"="+d.dsn)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = os.Stderr
	return cmd
}

// startWorker returns when the worker is ready. It ends with the test at the
// latest: its input ends.
func (d *database) startWorker(tb testing.TB, env ...string) *worker {
	tb.Helper()
	w := &worker{cmd: d.workerCommand(tb, "renew", env...), calls: make(map[int]chan workerAnswer)}
	var err error
	if w.input, err = w.cmd.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	output, err := w.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(w.kill)
	lines := bufio.NewScanner(output)
	if !lines.Scan() || lines.Text() != "ready" {
		tb.Fatalf("the worker does not start: %q, %v", lines.Text(), lines.Err())
	}
	w.reading.Go(func() { w.read(lines) })
	return w
}

// read hands out answers. When there are no more, every call has failed.
func (w *worker) read(lines *bufio.Scanner) {
	for lines.Scan() {
		var a workerAnswer
		if json.Unmarshal(lines.Bytes(), &a) != nil {
			break // the line that a kill has cut
		}
		w.mu.Lock()
		w.calls[a.Call] <- a
		delete(w.calls, a.Call)
		w.mu.Unlock()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone = true
	for _, call := range w.calls {
		close(call)
	}
	clear(w.calls)
}

// kill ends the process with SIGKILL, whatever it is doing.
func (w *worker) kill() {
	_ = w.cmd.Process.Kill() // an error: it has ended already
	w.reading.Wait()         // Wait closes the output that read reads
	_ = w.cmd.Wait()         // it was killed
}

func (w *worker) renew(ctx context.Context, token, idempotencyKey string) (answer, error) {
	w.mu.Lock()
	if w.gone {
		w.mu.Unlock()
		return answer{}, errGone
	}
	w.last++
	request := workerRequest{w.last, token, idempotencyKey}
	answered := make(chan workerAnswer, 1)
	w.calls[request.Call] = answered
	w.mu.Unlock()
	line, err := json.Marshal(request)
	if err != nil {
		return answer{}, err
	}
	w.write.Lock()
	_, _ = w.input.Write(append(line, '\n')) // to a process that is gone: read says so
	w.write.Unlock()
	select {
	case <-ctx.Done():
		return answer{}, ctx.Err()
	case a, ok := <-answered:
		switch {
		case !ok:
			return answer{}, errGone
		case a.Refused:
			return answer{}, fmt.Errorf("%w: %s", errRefused, a.Error)
		case a.Ahead:
			return answer{}, fmt.Errorf("%w: %s", errAhead, a.Error)
		case a.Error != "":
			return answer{}, errors.New(a.Error)
		}
		return a.answer, nil
	}
}

func openWorkerDatabase() (*sql.DB, sqlstore.Dialect, error) {
	db, err := sql.Open(os.Getenv(workerDriver), os.Getenv(workerDSN))
	return db, sqlstore.Dialect(os.Getenv(workerDialect)), err
}

// renewWorker is the worker's side.
func renewWorker() int {
	r, err := newWorkerRenewer()
	if err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		return 1
	}
	fmt.Println("ready")
	var write sync.Mutex
	var calls sync.WaitGroup
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var request workerRequest
		if err := json.Unmarshal(lines.Bytes(), &request); err != nil {
			fmt.Fprintln(os.Stderr, "worker:", err)
			return 1
		}
		calls.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			line, _ := json.Marshal(r.answer(ctx, request)) // strings and a number
			write.Lock()
			defer write.Unlock()
			_, _ = os.Stdout.Write(append(line, '\n'))
		})
	}
	calls.Wait()
	return 0
}

func (r renewer) answer(ctx context.Context, request workerRequest) workerAnswer {
	a, err := r.renew(ctx, request.Token, request.IdempotencyKey)
	answered := workerAnswer{Call: request.Call, answer: a}
	if err != nil {
		answered.Error, answered.Refused, answered.Ahead = err.Error(), errors.Is(err, errRefused), errors.Is(err, errAhead)
	}
	return answered
}

func newWorkerRenewer() (renewer, error) {
	ctx := context.Background()
	db, dialect, err := openWorkerDatabase()
	if err != nil {
		return renewer{}, err
	}
	db.SetMaxOpenConns(8)
	tokens, err := sqlstore.NewTokenStore(ctx, db, dialect)
	if err != nil {
		return renewer{}, err
	}
	encrypter, err := sqlstore.NewEncrypter(encryptionKey(1))
	if err != nil {
		return renewer{}, err
	}
	keys, err := sqlstore.NewKeyStore(ctx, db, dialect, encrypter, sqlstore.WithStatusInterval(time.Second))
	if err != nil {
		return renewer{}, err
	}
	var opts []renew.Option
	if os.Getenv(workerStrict) == "" {
		opts = append(opts, renew.WithRetryWindow(testWindow))
	}
	r, err := renew.New(keys, tokens, opts...)
	return renewer{r}, err
}

// migrateWorker migrates when its input ends, so that several start as one.
func migrateWorker() int {
	db, dialect, err := openWorkerDatabase()
	if err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		return 1
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := sqlstore.Migrate(context.Background(), db, dialect); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", strings.TrimSpace(err.Error()))
		return 1
	}
	return 0
}
