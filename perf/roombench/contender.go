package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/stanchion-queue/stanchion/perf/roomlive/rig"
)

// contender is a running waiting room.
type contender struct {
	name      string
	pump      *pump
	processes []*rig.Process // whose processor time counts: its own and its Redis'
	redis     rueidis.Client
	scripts   bool // its Redis steps are scripts; other commands run inside them
	stop      func()

	join   []move // what a fan sends to be in line, in order; each but the first carries what the one before brought
	status move
	shared *move // what any fan may be told, without a ticket

	settled    time.Time // its Redis has forgotten how it was set up
	idle       usage
	joins      [][]reading // per request of a join, per round
	polls      []reading
	sharedRead []reading
	few, many  waiting
	perWaiting float64
}

// move is one kind of request.
type move struct {
	request  func(ticket string) call
	wait     time.Duration // how old a ticket must be before this request
	response func(a answer) (ticket string, err error)
}

// usage is what was spent during something.
type usage struct {
	seconds, cpu    float64
	steps, commands float64
}

// reading is one measurement of one kind of request.
type reading struct {
	usage
	requests int
}

// outer are commands that a client with scripts sends; all others run inside its scripts.
var outer = map[string]bool{"evalsha": true, "eval": true, "evalsha_ro": true, "eval_ro": true, "wait": true, "script|load": true, "ping": true, "hello": true}

// ignored are our own questions.
var ignored = map[string]bool{"info": true, "scan": true, "memory|usage": true}

// calls reads how often each command ran since the server's start.
func (c *contender) calls(ctx context.Context) (steps, commands float64, err error) {
	text, err := c.redis.Do(ctx, c.redis.B().Info().Section("commandstats").Build()).ToString()
	if err != nil {
		return 0, 0, fmt.Errorf("ask redis for its commands: %w", err)
	}
	for name, n := range parseCalls(text) {
		if ignored[name] {
			continue
		}
		commands += n
		if !c.scripts || outer[name] {
			steps += n
		}
	}
	return steps, commands, nil
}

// parseCalls reads lines such as cmdstat_get:calls=21,usec=175.
func parseCalls(info string) map[string]float64 {
	calls := map[string]float64{}
	for line := range strings.Lines(info) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), ":calls=")
		name, known := strings.CutPrefix(name, "cmdstat_")
		if !ok || !known {
			continue
		}
		digits, _, _ := strings.Cut(rest, ",")
		if n, err := strconv.ParseFloat(digits, 64); err == nil {
			calls[name] = n
		}
	}
	return calls
}

func (c *contender) cpu() (total float64, err error) {
	for _, p := range c.processes {
		d, err := p.CPU()
		if err != nil {
			return 0, err
		}
		total += d.Seconds()
	}
	return total, nil
}

// during measures what is spent while f runs.
func (c *contender) during(ctx context.Context, f func() error) (u usage, err error) {
	steps, commands, err := c.calls(ctx)
	if err != nil {
		return u, err
	}
	cpu, err := c.cpu()
	if err != nil {
		return u, err
	}
	began := time.Now()
	if err := f(); err != nil {
		return u, err
	}
	u.seconds = time.Since(began).Seconds()
	if u.cpu, err = c.cpu(); err != nil {
		return u, err
	}
	if u.steps, u.commands, err = c.calls(ctx); err != nil {
		return u, err
	}
	u.cpu, u.steps, u.commands = u.cpu-cpu, u.steps-steps, u.commands-commands
	return u, nil
}

// round measures every kind of request for a while, as fast as the room answers.
func (c *contender) round(ctx context.Context, d time.Duration) error {
	if c.joins == nil {
		c.joins = make([][]reading, len(c.join))
	}
	var tickets []string
	for i, m := range c.join {
		if err := pause(ctx, m.wait); err != nil {
			return err
		}
		var next []string
		u, err := c.during(ctx, func() (err error) {
			next, err = c.pump.flat(ctx, m, tickets, i > 0, d)
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: join: %w", c.name, err)
		}
		c.joins[i] = append(c.joins[i], reading{u, len(next)})
		tickets = next
	}
	measure := func(m move, tickets []string) (reading, error) {
		n := 0
		u, err := c.during(ctx, func() error {
			out, err := c.pump.cycle(ctx, m, tickets, d)
			n = out
			return err
		})
		if err != nil {
			return reading{}, fmt.Errorf("%s: status: %w", c.name, err)
		}
		return reading{u, n}, nil
	}
	// Our places are known within half a second; the peer's at once.
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	r, err := measure(c.status, tickets)
	if err != nil {
		return err
	}
	c.polls = append(c.polls, r)
	if c.shared != nil {
		if r, err = measure(*c.shared, []string{""}); err != nil {
			return err
		}
		c.sharedRead = append(c.sharedRead, r)
	}
	return nil
}

// crowds lets few and then many fans wait and ask, and looks at what that costs Redis.
func (c *contender) crowds(ctx context.Context, o options) error {
	var tickets []string
	size, err := c.stored(ctx)
	if err != nil {
		return err
	}
	fill := func(n int) (grown int64, err error) {
		before := size
		fresh := make([]string, n)
		for i, m := range c.join {
			if err := pause(ctx, m.wait); err != nil {
				return 0, err
			}
			if fresh, err = c.pump.paced(ctx, m, fresh, i > 0, o.poll); err != nil {
				return 0, fmt.Errorf("%s: join: %w", c.name, err)
			}
		}
		tickets = append(tickets, fresh...)
		if err := pause(ctx, time.Second); err != nil {
			return 0, err
		}
		size, err = c.stored(ctx)
		return size - before, err
	}
	look := func() (w waiting, err error) {
		u, err := c.during(ctx, func() error {
			_, err := c.pump.paced(ctx, c.status, tickets, true, o.poll)
			return err
		})
		if err != nil {
			return w, fmt.Errorf("%s: status: %w", c.name, err)
		}
		return waiting{Fans: len(tickets), StepsPerS: u.steps / u.seconds, CommandsPerS: u.commands / u.seconds, PollsPerS: float64(len(tickets)) / u.seconds, StoredBytes: size}, nil
	}
	first, err := fill(o.few)
	if err != nil {
		return err
	}
	if c.few, err = look(); err != nil {
		return err
	}
	// The time of the polls must not count as growth of the second crowd.
	if size, err = c.stored(ctx); err != nil {
		return err
	}
	second, err := fill(o.many - o.few)
	if err != nil {
		return err
	}
	if c.many, err = look(); err != nil {
		return err
	}
	if more := o.many - 2*o.few; more > 0 {
		c.perWaiting = float64(second-first) / float64(more)
	}
	return nil
}

// stored is what the keys of Redis take, in bytes.
func (c *contender) stored(ctx context.Context) (int64, error) {
	n, err := sizes(ctx, c.redis, "*")
	return int64(n), err
}

// costs are the medians.
func (c *contender) costs() *roomCosts {
	out := &roomCosts{IdlePerS: c.idle.commands / c.idle.seconds, Few: c.few, Many: c.many, BytesPerWaiting: c.perWaiting, Status: c.cost(c.polls)}
	out.Join = c.cost(c.joins[0])
	if len(c.joins) == 2 {
		second := c.cost(c.joins[1])
		out.Number = &second
		first := out.Join
		out.Join = cost{PerSecond: 1 / (1/first.PerSecond + 1/second.PerSecond), PerCPUSecond: 1 / (1/first.PerCPUSecond + 1/second.PerCPUSecond),
			Steps: first.Steps + second.Steps, Commands: first.Commands + second.Commands, Requests: second.Requests}
	}
	if c.shared != nil {
		s := c.cost(c.sharedRead)
		out.Shared = &s
	}
	return out
}

func (c *contender) cost(rounds []reading) (out cost) {
	var perS, perCPU, steps, commands []float64
	for _, r := range rounds {
		n := float64(max(r.requests, 1))
		perS = append(perS, n/r.seconds)
		perCPU = append(perCPU, n/max(r.cpu, 0.01))
		steps = append(steps, max(r.steps-c.idle.steps/c.idle.seconds*r.seconds, 0)/n)
		commands = append(commands, max(r.commands-c.idle.commands/c.idle.seconds*r.seconds, 0)/n)
		out.Requests += r.requests
	}
	out.PerSecond, out.PerCPUSecond, out.Steps, out.Commands = median(perS), median(perCPU), median(steps), median(commands)
	return out
}
