package explore

import (
	"errors"

	"github.com/jwtrenew/renew"
)

var errClock = errors.New("clock")

func hashOf(s *renew.Session) []byte { return s.RetryProof }

// Ahead stands for renew.AheadPolicy.
type Ahead int8

const (
	fails Ahead = iota
	rejected
	adopted
)

func aheadOptions(Ahead) []renew.Option { return nil }
