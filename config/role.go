package config

// Role is a part of the product that a process may run.
type Role string

// The roles. A process runs one, or several together.
const (
	EdgeRole      Role = "edge"
	QueueRole     Role = "queue"
	CoreRole      Role = "core"
	InventoryRole Role = "inventory"
	AdminRole     Role = "admin"
	PSPSimulator  Role = "psp-simulator"
)

// AllRoles are the roles of `stanchion all`; the demo adds PSPSimulator.
func AllRoles() []Role {
	return []Role{EdgeRole, QueueRole, CoreRole, InventoryRole, AdminRole}
}

// ProtectRoles are the roles of `stanchion edge --protect` with embedded rooms: a waiting room in front of any origin.
func ProtectRoles() []Role { return []Role{EdgeRole, QueueRole, AdminRole} }
