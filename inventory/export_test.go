package inventory

import "github.com/google/uuid"

// Waiting is how many requests wait for a block's owner.
func (s *Service) Waiting(performance uuid.UUID, block int16) int {
	s.mu.Lock()
	v := s.venues[performance]
	s.mu.Unlock()
	v.mu.Lock()
	o := v.owners[block]
	v.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.waiting)
}
