package bus

import "fmt"

func dedupeKey(e Event) string {
	return fmt.Sprintf("%s/%s/%s/%s/%d.%d", e.Topic, e.Key, e.Type, e.Subject, e.Generation, e.Version)
}
