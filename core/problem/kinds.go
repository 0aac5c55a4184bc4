package problem

import (
	"cmp"
	"slices"
)

// Kind is what stays the same in all occurrences of one problem. Means and Do are its page in docs/reference/problems.md.
type Kind struct {
	Code   string // the last part of the type
	Status int
	Title  string
	Means  string // when it is answered
	Do     string // what a client does about it
}

// Type is the kind's stable URI, relative to the host.
func (k *Kind) Type() string { return TypePrefix + k.Code }

// Kinds lists every kind that the core answers, by status and code.
func Kinds() []*Kind { return slices.Clone(kinds) }

var kinds []*Kind

func kind(status int, code, title, means, do string) *Kind {
	k := &Kind{Code: code, Status: status, Title: title, Means: means, Do: do}
	at, _ := slices.BinarySearchFunc(kinds, k, func(a, b *Kind) int {
		return cmp.Or(cmp.Compare(a.Status, b.Status), cmp.Compare(a.Code, b.Code))
	})
	kinds = slices.Insert(kinds, at, k)
	return k
}

// The kinds. A title never changes from one occurrence to the next; what is special about one is said in its detail.
var (
	Malformed = kind(400, "malformed", "The request could not be read",
		"The body is not JSON, a form lacks a field that our own pages always send, or the connection broke off in the middle of it.",
		"Correct the request. Nothing was done.")
	BadKey = kind(400, "bad-key", "The Idempotency-Key is not usable",
		"The header Idempotency-Key is longer than 255 characters or contains others than visible ASCII.",
		"Draw a new key, such as a random UUID.")
	GuestNeeded = kind(400, "guest-needed", "An Idempotency-Key needs a guest",
		"A key belongs to whoever sends it, and this request did not say who that is. The answer carries a new guest token, as a cookie and in the header Stanchion-Guest.",
		"Repeat the request with the token, as the cookie or as `Authorization: Bearer …`.")
	CookiesNeeded = kind(400, "cookies-needed", "Your browser did not send our cookie",
		"A form of the shop came without the guest cookie that its page had set: the browser blocks cookies.",
		"Allow cookies for this site. They are how we know that the seats are yours.")
	BadSignature = kind(400, "bad-signature", "The webhook's signature does not match",
		"A webhook is not signed with a secret that is in use, or its signature is more than five minutes old.",
		"Payment providers: check the secret and the clock. The event was not stored.")

	PassRequired = kind(401, "pass-required", "A pass of the waiting room is required",
		"Seats of this performance are sold to fans whom the waiting room let in, and the request carried no pass.",
		"Join the room that the performance names, and come back with its pass in Stanchion-Pass.")
	GuestInvalid = kind(401, "guest-invalid", "The guest token is not valid",
		"The bearer token was not made by us, or was damaged on its way.",
		"Leave it out: the next write gives you a new one. Orders made with another token are opened by their signed link.")

	PaymentDeclined = kind(402, "payment-declined", "The payment was declined",
		"The payment provider said no at once; detail is its code. Nothing was charged.",
		"Begin another attempt, with another payment method, before `pay_by`.")

	PassInvalid = kind(403, "pass-invalid", "The pass is not valid here",
		"The pass is forged, expired, or for another room.",
		"Ask the waiting room for a fresh one.")
	PassUsed = kind(403, "pass-used", "The pass has bought its tickets",
		"An order that was made with this pass is paid. A pass buys once.",
		"To buy more, take a new place in line.")
	StaffOnly = kind(403, "staff-only", "This needs a token of the staff",
		"The header Stanchion-Staff-Token is missing or wrong.",
		"Send the token of the installation.")
	CrossSite = kind(403, "cross-site", "Requests of other sites are refused",
		"A browser sent this write on behalf of a page of another site.",
		"Open the page here and try again.")

	NotFound = kind(404, "not-found", "There is no such thing, or it is not yours",
		"Nothing has this address, or it belongs to somebody else: both are answered alike, so that ids cannot be guessed.",
		"Check the id; for an order or ticket, use the link that came with it.")
	MethodNotAllowed = kind(405, "method-not-allowed", "That cannot be done with this resource",
		"The resource exists, but not for this method. The header Allow lists those there are.",
		"See /api/openapi.json.")
	TooSlow = kind(408, "too-slow", "The request took too long to arrive",
		"The body did not arrive in time.",
		"Send it again.")

	SeatsTaken = kind(409, "seats-taken", "Some of these seats are taken",
		"Somebody else holds or has bought at least one of the seats; `seats` names them. None of them was taken for you.",
		"Choose other seats. The map is at most two seconds old.")
	NoSeatsLeft = kind(409, "no-seats-left", "There are no free seats that fit",
		"No free seats side by side fit what was asked for.",
		"Ask for fewer seats, or for another category. Seats come back when somebody lets them go.")
	PassLimit = kind(409, "pass-limit", "That is more seats than your pass allows",
		"Seats held and bought with one pass are counted together; detail has the numbers.",
		"Let seats go, or choose fewer.")
	SaleNotOpen = kind(409, "sale-not-open", "The sale is not open",
		"The performance, or the part of the house with these seats, does not sell at the moment.",
		"Look at `sale_open` and at the state in the availability, and try later.")
	AtTheCap = kind(409, "at-the-cap", "The hold cannot be extended any further",
		"Each hold has a last possible end, and this one has reached it.",
		"Pay now, or let the seats go.")
	PriceChanged = kind(409, "price-changed", "The price has changed",
		"The quote in the request is not what the seats cost now; `total` and `currency` are.",
		"Show the new price and order again with it.")
	HoldInCheckout = kind(409, "hold-in-checkout", "The hold belongs to an order",
		"An order was made of this hold, so it is no longer extended or released by itself.",
		"Pay or cancel the order.")
	WrongState = kind(409, "wrong-state", "The order cannot do that now",
		"The state that the order is in (in detail) does not allow it.",
		"Read the order and go on from there.")
	AttemptOpen = kind(409, "attempt-open", "A payment is already open",
		"An earlier attempt to pay is not over; two at once could charge twice. `next_action` is where it goes on.",
		"Finish it there, or cancel the order.")
	KeyInFlight = kind(409, "key-in-flight", "The same request is being worked on",
		"A request with this Idempotency-Key has not been answered yet.",
		"Repeat it after `retry_after_ms`: it gets the first one's answer.")
	UnitRefunded = kind(409, "unit-refunded", "A unit is already refunded or unknown",
		"At least one of the units is not there, or its money is back or on its way.",
		"Read the order and name the units that are left. Nothing was refunded.")
	DisputeOpen = kind(409, "dispute-open", "The payment is disputed",
		"The cardholder's bank has opened a dispute, which decides about the money first.",
		"Wait for its end.")
	NotPaid = kind(409, "not-paid", "The order is not paid, so it has no tickets",
		"Tickets exist from the moment the money is safe; this order is not there, or was refunded.",
		"Read the order's state.")
	Exists = kind(409, "exists", "The id or slug exists already",
		"Something with this id or slug was stored before.",
		"Choose another, or send the version of what you want to replace.")
	PlanDiffers = kind(409, "plan-differs", "The performance has another seating plan",
		"Seats of this performance were made from another plan, and tickets are printed from it.",
		"Make a new performance for the new plan.")
	IDTaken = kind(409, "id-taken", "The id belongs to something else",
		"The id that the request brought is in use for another request's hold or order.",
		"Repeat the request with a new Idempotency-Key.")

	HoldExpired = kind(410, "hold-expired", "The hold has expired",
		"The time for which the seats were kept is over, and they are back on sale. Nothing was charged.",
		"Choose seats again.")
	Revoked = kind(410, "revoked", "The ticket was revoked",
		"The ticket was refunded, or replaced by a newer one.",
		"Use the newer one; the order's page shows which tickets are good.")

	ChangedMeanwhile = kind(412, "changed-meanwhile", "It was changed meanwhile",
		"The version in the request is not the newest.",
		"Read it again and decide anew.")
	TooLarge = kind(413, "too-large", "The request is too large",
		"The body exceeds the limit that the operation's description gives.",
		"Send less.")
	MediaType = kind(415, "unsupported-media-type", "The body is of a type we do not read",
		"The body's Content-Type is not application/json.",
		"Send JSON, and say so.")

	Invalid = kind(422, "invalid", "Some fields are not as they must be",
		"The request is well formed, but `errors` lists fields that are missing, unknown or out of range.",
		"Correct the fields named. Nothing was done.")
	NoSuchSeat = kind(422, "no-such-seat", "Some of these seats do not exist",
		"`seats` names seats that are not in the performance's chart, or that have no price.",
		"Take the ids of the chart.")
	NoSeats = kind(422, "no-seats", "No seats were named, or one was named twice",
		"A hold needs at least one seat, and each seat once.",
		"Name the seats.")
	TooManySeats = kind(422, "too-many-seats", "Too many seats at once",
		"One request takes at most 20 seats.",
		"Ask for fewer.")
	ManyBlocks = kind(422, "many-blocks", "The seats of one hold lie in one block",
		"The inventory changes one block at a time, and these seats lie in several (Stanchion-Block-Starts of the chart says where blocks begin). Nothing was taken.",
		"Make one hold for each block; an order takes up to four.")
	TooManyHolds = kind(422, "too-many-holds", "An order takes at most four holds",
		"The seats lie in more than four blocks, or more than four holds were named.",
		"Choose seats that lie closer together.")
	MixedHolds = kind(422, "mixed-holds", "The holds are for different performances",
		"An order is for one performance.",
		"Make one order for each.")
	BadReturnURL = kind(422, "bad-return-url", "The return address cannot be used",
		"`return_url` is not an absolute URL on the host that the request was sent to.",
		"Leave it out to come back to the order's page.")
	KeyReused = kind(422, "key-reused", "The idempotency key was used for another request",
		"A request with this key but another method, path or body was sent before.",
		"Draw a new key for each new request.")

	Internal = kind(500, "internal", "Something went wrong on our side",
		"A fault of ours; `trace` names it in our logs.",
		"Nothing acknowledged is lost. Repeating the request with the same Idempotency-Key is safe.")
	BlockFrozen = kind(503, "block-frozen", "These seats are being checked",
		"The auditor has stopped this part of the house while a doubt about it is cleared up.",
		"Repeat after `retry_after_ms`, or choose seats elsewhere.")
	OneMoment = kind(503, "one-moment", "The outcome is not known yet",
		"The seat store or another part did not answer in time, so we do not know whether it was done.",
		"Repeat the very same request, with the same Idempotency-Key, after `retry_after_ms`: that settles it.")
)
