package storetest

func (e *env[H]) needsProxy() {
	if e.proxy == nil {
		e.skip("the test of this store gives no WithProxy")
	}
}

// loseEach makes a call again and again, each time without another one of its
// replies, until it meets no loss. prepare returns the call, and what looks at its
// result.
func (e *env[H]) loseEach(prepare func() (call namedCall, judge func(error))) {
	const most = 8
	for n := range most {
		call, judge := prepare()
		stop := e.proxy.LoseReply(n)
		err := call.call(e.ctx)
		lost := stop()
		judge(err)
		if !lost {
			return
		}
	}
}

// judgeLost looks at the result of a call that has met the loss of a reply, and
// reports whether it is the one that the call returns otherwise. If not, it does not
// tell the outcome.
func (e *env[H]) judgeLost(method string, err, want error) (clear bool) {
	switch {
	case matches(err, want), isNamed(err) && isNamed(want):
		return true
	case isNamed(err):
		e.fatalf("expected nil of %s, or an error that does not tell the outcome, when a reply of the server is lost\nthe store returned %s: %q; if its client library sends a call again, the second one must recognize what the first one has written",
			method, errorName(err), err)
	case err == nil:
		e.fatalf("expected %s of %s, or an error that does not tell the outcome, when a reply of the server is lost\nthe store returned nil", outcome("", want), method)
	}
	return false
}

// losesReplies makes every call without one of its replies.
func losesReplies(e *tokenEnv) {
	e.needsProxy()
	for i := range newScene(e, 1, plainValue.change).ops(e) {
		losesReply(e, i, func() (world, tokenOp) {
			c := newScene(e, 1, plainValue.change)
			return c.world, c.ops(e)[i]
		})
	}
}

// keysLoseReplies does the same for the calls about an app and its keys.
func keysLoseReplies(e *keyEnv) {
	e.needsProxy()
	needsAdmin(e)
	for i := range newPair(e).ops(e) {
		losesReply(e, i, func() (*tenant, keyOp) {
			p := newPair(e)
			return p.tenant, p.ops(e)[i]
		})
	}
	e.loseEach(func() (call namedCall, judge func(error)) {
		op := createOp(newApp(e))
		return op.on(e.a), func(err error) { e.judgeLost(op.name, err, nil) }
	})
}
