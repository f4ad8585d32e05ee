package history

import (
	"fmt"
	"slices"
	"strings"
)

// shown is how many operations of a history that cannot be explained are
// printed: a person reads these, and the seed makes the rest again.
const shown = 40

// Format returns the history for a person to read: in the order of the calls,
// with the place that each operation has in the order that Check returned. Token
// IDs are t0, t1, … in the order of their first mention.
func Format(ops []Op, order []int) string {
	place := make(map[int]int, len(order))
	for at, i := range order {
		place[i] = at + 1
	}
	byStart := make([]int, len(ops))
	for i := range ops {
		byStart[i] = i
	}
	slices.SortStableFunc(byStart, func(i, j int) int { return ops[i].Start - ops[j].Start })
	short := shortNames(ops, byStart)

	// The suspects are the first operations with a known outcome that have no place.
	from, to := 0, len(byStart)
	for at, i := range byStart {
		if place[i] == 0 && ops[i].Result != Unknown {
			from, to = max(0, at-shown/2), min(len(byStart), at+shown/2)
			break
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%5s  %-6s  %-11s  %s\n", "place", "client", "call-return", "operation and result")
	if from > 0 {
		fmt.Fprintf(&b, "       (%d earlier operations are not shown)\n", from)
	}
	for _, i := range byStart[from:to] {
		fmt.Fprintf(&b, "%5s  %-6d  %-11s  %s\n", placeName(place[i], ops[i]), ops[i].Client, span(ops[i]), describe(ops[i], short))
	}
	if to < len(byStart) {
		fmt.Fprintf(&b, "       (%d later operations are not shown)\n", len(byStart)-to)
	}
	b.WriteString("place: its turn in the longest order that explains the results; ?: has no place in it; -: need not have happened")
	return b.String()
}

func placeName(place int, op Op) string {
	switch {
	case place > 0:
		return fmt.Sprint(place)
	case op.Result == Unknown:
		return "-"
	}
	return "?"
}

func span(op Op) string {
	if op.Result == Unknown {
		return fmt.Sprintf("%d-", op.Start)
	}
	return fmt.Sprintf("%d-%d", op.Start, op.End)
}

func describe(op Op, short map[string]string) string {
	var what string
	switch op.Kind {
	case Create:
		what = "create at " + short[op.To]
	case Rotate:
		what = "rotate " + short[op.From] + " to " + short[op.To]
	case Revoke:
		what = fmt.Sprintf("revoke at time %d", op.At)
	case Read:
		what = "read"
	}
	result := string(op.Result)
	if op.Kind == Read && op.Result == OK {
		result = short[op.Token]
		if op.Revoked != 0 {
			result += fmt.Sprintf(", revoked at time %d", op.Revoked)
		}
	}
	if op.Detail != "" {
		result += " (" + op.Detail + ")"
	}
	return what + ": " + result
}

func shortNames(ops []Op, byStart []int) map[string]string {
	names := map[string]string{"": "nothing"}
	for _, i := range byStart {
		for _, id := range []string{ops[i].From, ops[i].To, ops[i].Token} {
			if _, known := names[id]; !known {
				names[id] = fmt.Sprintf("t%d", len(names)-1)
			}
		}
	}
	return names
}
