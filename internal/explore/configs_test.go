package explore

import (
	"time"

	"github.com/jwtrenew/renew"
)

const leeway = 10 * time.Second

func configs() []*Config {
	return []*Config{
		{Name: "tabs", Tabs: 2, Requests: 4, Keys: true, ReuseLeeway: leeway, Lost: 1},
		{Name: "tabs-plain", Tabs: 2, Requests: 4, ReuseLeeway: leeway, Lost: 1, Steps: 1, Clock: []time.Duration{11 * time.Second}},
		{Name: "faults", Tabs: 2, Requests: 3, Keys: true, ReuseLeeway: leeway, Lost: 1, Faults: 2},
		{Name: "thief", Tabs: 1, Requests: 3, Keys: true, ReuseLeeway: leeway, Thief: &Thief{Requests: 2}, Steps: 1, Clock: []time.Duration{11 * time.Second, 4 * time.Hour}},
		{Name: "window", Tabs: 1, Requests: 3, ReuseLeeway: leeway, RetryWindow: time.Minute, Options: []renew.Option{renew.WithRetryWindow(time.Minute)}, Thief: &Thief{Requests: 2}, Steps: 2, Clock: []time.Duration{50 * time.Second}},
	}
}
