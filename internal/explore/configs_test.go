package explore

import (
	"fmt"
	"time"

	"github.com/jwtrenew/renew"
)

const (
	leeway = 10 * time.Second
	window = time.Minute
	ttl    = 3 * time.Hour
)

// small returns the configurations that every run of the tests explores.
func small() []*Config {
	return []*Config{
		{Name: "tabs", Tabs: 2, Requests: 4, Keys: true, ReuseLeeway: leeway, Lost: 1, HangUps: 1},
		{Name: "tabs without keys", Tabs: 2, Requests: 4, ReuseLeeway: leeway, Lost: 1, Steps: 1, Clock: []time.Duration{4 * time.Second, leeway + time.Second}},
		{Name: "tabs, no leeway", Tabs: 2, Requests: 4, Roams: true, Steps: 1, Clock: []time.Duration{4 * time.Second}},
		{Name: "hang-ups", Tabs: 1, Requests: 3, ReuseLeeway: leeway, HangUps: 2, Slow: true},
		{Name: "faults", Tabs: 2, Requests: 3, Keys: true, ReuseLeeway: leeway, Lost: 1, Faults: 2},
		{Name: "faults without keys", Tabs: 2, Requests: 3, ReuseLeeway: leeway, Faults: 1, Timeouts: true, HangUps: 1},
		{Name: "failover", Tabs: 2, Requests: 2, Keys: true, ReuseLeeway: leeway, Faults: 2, Failovers: 1},
		{Name: "thief", Tabs: 1, Requests: 2, Keys: true, ReuseLeeway: leeway, Thief: &Thief{Requests: 2}, Steps: 1, Clock: []time.Duration{leeway + time.Second, ttl + time.Second}},
		{Name: "thief elsewhere", Tabs: 1, Requests: 3, ReuseLeeway: leeway, Thief: &Thief{Requests: 2, Remote: true, OwnKeys: true}},
		{Name: "thief who hangs up", Tabs: 1, Requests: 2, Keys: true, ReuseLeeway: leeway, Thief: &Thief{Requests: 1, Remote: true}, HangUps: 2},
		{Name: "thief with the key", Tabs: 1, Requests: 3, Keys: true, ReuseLeeway: leeway, Thief: &Thief{Requests: 2, KnowsKey: true}, Lost: 1},
		{Name: "retry window", Tabs: 1, Requests: 3, ReuseLeeway: leeway, RetryWindow: window, Lost: 2, Steps: 2, Clock: []time.Duration{window - 5*time.Second}},
		{Name: "retry window and keys", Tabs: 1, Requests: 2, Keys: true, ReuseLeeway: leeway, RetryWindow: window, Thief: &Thief{Requests: 2}, Lost: 1},
		{Name: "logout", Tabs: 2, Requests: 2, Keys: true, ReuseLeeway: leeway, Logouts: 1, Faults: 1},
		{Name: "expiry", Tabs: 1, Requests: 3, Keys: true, ReuseLeeway: leeway, Deletions: 1, Steps: 2, Clock: []time.Duration{ttl - time.Second, 2 * time.Second}, Slow: true},
		{Name: "signing keys", Tabs: 1, Requests: 2, Keys: true, ReuseLeeway: leeway, Lost: 1, KeyCalls: true, KeyReplacements: 1, KeyRevocations: 1, Steps: 1, Clock: []time.Duration{ttl - 2*time.Second}},
		{Name: "renew function", Tabs: 2, Requests: 3, Keys: true, ReuseLeeway: leeway, Hook: true, Denials: 1, HangUps: 1},
		{Name: "clocks", Tabs: 1, Requests: 3, Keys: true, ReuseLeeway: leeway, RefreshNotBefore: time.Minute, Lost: 1, Steps: 3, Clock: []time.Duration{61 * time.Second, -30 * time.Second, -24 * time.Hour}},
		{Name: "tabs and clocks", Tabs: 2, Requests: 3, Keys: true, ReuseLeeway: leeway, Steps: 1, Clock: []time.Duration{-time.Second, time.Second}},
		{Name: "tabs and clocks without keys", Tabs: 2, Requests: 3, ReuseLeeway: leeway, Steps: 1, Clock: []time.Duration{-time.Second, time.Second}},
		{Name: "ahead fails", Tabs: 2, Requests: 3, Keys: true, ReuseLeeway: leeway, Restores: 1, Ahead: renew.AheadFails},
		{Name: "ahead is rejected", Tabs: 2, Requests: 3, Keys: true, ReuseLeeway: leeway, Restores: 1, Ahead: renew.AheadRejected},
		{Name: "ahead is adopted", Tabs: 2, Requests: 4, Keys: true, ReuseLeeway: leeway, Restores: 1, Ahead: renew.AheadAdopted},
		{Name: "ahead is adopted, descending", Tabs: 2, Requests: 3, Keys: true, ReuseLeeway: leeway, Restores: 1, Lost: 1, Ahead: renew.AheadAdopted, Descending: true},
		{Name: "ahead and a thief", Tabs: 1, Requests: 2, Keys: true, ReuseLeeway: leeway, Restores: 1, Thief: &Thief{Requests: 2}, Ahead: renew.AheadAdopted},
	}
}

// large returns the others: what the small ones have one by one, together.
func large() []*Config {
	var cs []*Config
	for _, keys := range []bool{true, false} {
		base := Config{Tabs: 2, Requests: 4, Keys: keys, ReuseLeeway: leeway}
		add := func(name string, change func(*Config)) {
			c := base
			change(&c)
			if !keys {
				name += " without keys"
			}
			c.Name, c.MaxStates = "large "+name, maxStates
			cs = append(cs, &c)
		}
		for _, thief := range []Thief{{}, {Remote: true}, {OwnKeys: true}, {KnowsKey: true}, {KnowsKey: true, OwnKeys: true, Remote: true}} {
			if thief.KnowsKey && !keys {
				continue
			}
			thief.Requests = 2
			name := thief.words()
			if thief == (Thief{Requests: 2}) {
				add(name+", six renewals", func(c *Config) { c.Thief = &thief })
			}
			add(name, func(c *Config) {
				c.Requests, c.Thief, c.Lost, c.Steps = 2, &thief, 1, 1
				c.Clock = []time.Duration{leeway + time.Second, ttl + time.Second}
			})
			add(name+", hang-ups and faults", func(c *Config) {
				c.Tabs, c.Requests, c.Thief, c.HangUps, c.Faults = 1, 2, &thief, 1, 1
			})
		}
		add("faults", func(c *Config) { c.Requests, c.Faults, c.HangUps, c.Timeouts = 3, 2, 1, true })
		add("three tabs", func(c *Config) { c.Tabs, c.Requests, c.HangUps = 3, 4, 1 })
		add("failover", func(c *Config) { c.Requests, c.Faults, c.Failovers = 3, 2, 1 })
		add("slow", func(c *Config) {
			c.Slow, c.Requests, c.Steps, c.HangUps, c.Faults = true, 2, 1, 1, 1
			c.Clock = []time.Duration{4 * time.Second, leeway + time.Second}
		})
		add("window", func(c *Config) {
			c.Tabs, c.Requests = 1, 3
			c.RetryWindow, c.Thief, c.Lost, c.Steps = window, &Thief{Requests: 2, Remote: true}, 1, 2
			c.Clock = []time.Duration{window - 5*time.Second}
		})
		add("thief and time", func(c *Config) {
			c.Tabs, c.Requests, c.Thief, c.Steps = 1, 3, &Thief{Requests: 2}, 1
			c.Clock = []time.Duration{leeway + time.Second, ttl + time.Second}
		})
		add("logout", func(c *Config) { c.Requests, c.Logouts, c.Faults = 3, 1, 1 })
		add("end", func(c *Config) {
			c.Requests, c.Logouts, c.Faults, c.Deletions, c.Steps, c.Lost = 2, 1, 1, 1, 1, 1
			c.Clock = []time.Duration{ttl + time.Second}
		})
		add("absolute end", func(c *Config) {
			c.Requests, c.SessionTTL, c.Deletions, c.Steps, c.Lost = 3, 5*time.Hour, 1, 2, 1
			c.Clock = []time.Duration{2*time.Hour + 30*time.Minute}
		})
		add("signing keys", func(c *Config) {
			c.Requests, c.KeyCalls, c.KeyReplacements, c.KeyRevocations, c.Lost = 3, true, 1, 1, 1
		})
		add("renew function", func(c *Config) { c.Hook, c.Denials, c.Faults, c.HangUps, c.Requests = true, 1, 1, 1, 3 })
		add("clocks", func(c *Config) {
			c.Requests, c.RefreshNotBefore, c.Lost, c.Steps = 3, time.Minute, 1, 2
			c.Clock = []time.Duration{61 * time.Second, -30 * time.Second, -24 * time.Hour}
		})
		for _, policy := range []renew.AheadPolicy{renew.AheadFails, renew.AheadRejected, renew.AheadAdopted} {
			for _, descending := range []bool{false, true} {
				add(fmt.Sprintf("ahead %d, descending %t", policy, descending), func(c *Config) {
					c.Requests, c.Ahead, c.Restores, c.Lost, c.Faults, c.Descending = 3, policy, 1, 1, 1, descending
				})
			}
			add(fmt.Sprintf("ahead %d and a thief", policy), func(c *Config) {
				c.Tabs, c.Requests, c.Ahead, c.Restores, c.Thief = 1, 3, policy, 1, &Thief{Requests: 2}
			})
		}
	}
	return cs
}

// maxStates is more than any of them has.
const maxStates = 5_000_000

func (t Thief) words() string {
	name := "thief"
	if t.Remote {
		name += " elsewhere"
	}
	if t.KnowsKey {
		name += " who has the key"
	}
	if t.OwnKeys {
		name += " and sends keys"
	}
	return name
}

func configs() []*Config { return append(small(), large()...) }
