package storetest

import "maps"

func (e *env[H]) needsProxy() {
	if e.proxy == nil {
		e.skip("the test of this store gives no WithProxy")
	}
}

// loseEach makes a call again and again, each time without another one of its
// replies, until it meets no loss. prepare returns the call, and what looks at its
// result.
func (e *env[H]) loseEach(prepare func() (call func() error, judge func(error))) {
	const most = 8
	for n := range most {
		call, judge := prepare()
		stop := e.proxy.LoseReply(n)
		err := call()
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
		e.fatalf("expected %s of %s, or an error that does not tell the outcome, when a reply of the server is lost\nthe store returned nil", wanted(want), method)
	}
	return false
}

// allOrNothing fails the case unless the store has all that a call does, or, if its
// result does not tell, nothing of it. done and undone are what differs from either.
func (e *env[H]) allOrNothing(method string, err error, clear bool, done, undone string) {
	if done != "" && (clear || undone != "") {
		e.fatalf("expected all of %s, or nothing of it after an error that does not tell the outcome, when a reply of the server is lost\nthe store returned %v, and differs from what it must have: %s", method, err, done)
	}
}

// losesReplies makes every call without one of its replies. Afterwards the store has
// all that the call does, or nothing of it.
func losesReplies(e *tokenEnv) {
	e.needsProxy()
	for i := range newScene(e, 1, plainValue.change).ops(e) {
		e.loseEach(func() (call func() error, judge func(error)) {
			c := newScene(e, 1, plainValue.change)
			op := c.ops(e)[i]
			after := maps.Clone(c.world)
			_, want := op.apply(after)
			call = func() error { _, err := op.call(e.ctx, e.handle(i).plain()); return err }
			return call, func(err error) {
				clear := e.judgeLost(op.name, err, want)
				_, undone := c.differs(e, e.handle(i))
				_, done := after.differs(e, e.handle(i+1))
				e.allOrNothing(op.name, err, clear, done, undone)
			}
		})
	}
}

// keysLoseReplies does the same for the calls about an app and its keys.
func keysLoseReplies(e *keyEnv) {
	e.needsProxy()
	needsAdmin(e)
	for i := range newPair(e).ops(e) {
		e.loseEach(func() (call func() error, judge func(error)) {
			p := newPair(e)
			op := p.ops(e)[i]
			after := p.clone()
			want := op.apply(after)
			if want != nil {
				after = p.tenant
			}
			return func() error { return op.call(e.ctx, e.handle(i)) }, func(err error) {
				clear := e.judgeLost(op.name, err, want)
				_, undone := p.differs(e, e.handle(i))
				_, done := after.differs(e, e.handle(i+1))
				e.allOrNothing(op.name, err, clear, done, undone)
			}
		})
	}
	e.loseEach(func() (call func() error, judge func(error)) {
		op := createOp(newApp(e))
		return func() error { return op.call(e.ctx, e.a) }, func(err error) { e.judgeLost(op.name, err, nil) }
	})
}
