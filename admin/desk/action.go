package desk

import "slices"

// Action is a thing an operator does to a whole room with one decision. It sets the room's mode.
type Action struct {
	Name   string `json:"name" doc:"Word in paths: pause, resume, queue-all, admit-all, drain, maintenance or end."`
	Mode   string `json:"mode" doc:"Mode it sets."`
	Title  string `json:"title" doc:"What it is called."`
	Does   string `json:"does" doc:"What happens to fans."`
	Danger bool   `json:"danger" doc:"It cannot be taken back for the fans it has reached; the console asks twice and wants a reason."`
	Warns  string `json:"warns,omitempty" doc:"What undoing does not bring back."`
}

// ModeKey is the key of the settings document that actions set.
const ModeKey = "mode"

// Actions are all actions, harmless ones first.
var Actions = []Action{
	{Name: "pause", Mode: "paused", Title: "Pause admission",
		Does: "Nobody is let in. Places in line are kept, fans inside stay inside, and the waiting page says that it is paused."},
	{Name: "resume", Mode: "normal", Title: "Resume normal admission",
		Does: "Fans are let in again, in order, within the cap and the rate. While the room is not crowded, newcomers go straight in."},
	{Name: "queue-all", Mode: "queue-all", Title: "Queue everybody",
		Does: "Every newcomer takes a place in line, however empty the room is. Fans are let in in order, within the cap and the rate."},
	{Name: "drain", Mode: "draining", Title: "Drain the room",
		Does: "Nobody is let in. Fans inside finish what they are doing; the room empties by itself. Places in line are kept."},
	{Name: "admit-all", Mode: "admit-all", Title: "Admit everybody", Danger: true,
		Does:  "The waiting room is switched off: everybody passes at once, the cap and the rate are not kept, and the origin meets the whole crowd.",
		Warns: "Undoing brings the line back, but those who went in meanwhile are inside, ahead of fans who came before them."},
	{Name: "maintenance", Mode: "maintenance", Title: "Close for maintenance", Danger: true,
		Does:  "Nobody is let in, and every fan in line reads that the site is being worked on. Places are kept.",
		Warns: "Fans who have read it may have gone away."},
	{Name: "end", Mode: "ended", Title: "End the sale", Danger: true,
		Does:  "The sale is over for everybody in line: nobody is let in any more, and every waiting fan is told so.",
		Warns: "Undoing opens the line again with the same places, but fans who were told that it is over have gone."},
}

// FindAction looks up an action by name. ErrNoAction otherwise.
func FindAction(name string) (Action, error) {
	i := slices.IndexFunc(Actions, func(a Action) bool { return a.Name == name })
	if i < 0 {
		return Action{}, ErrNoAction
	}
	return Actions[i], nil
}

// ActionFor is the action that sets a mode.
func ActionFor(mode string) (Action, bool) {
	i := slices.IndexFunc(Actions, func(a Action) bool { return a.Mode == mode })
	if i < 0 {
		return Action{}, false
	}
	return Actions[i], true
}
