package pspsim

import "strings"

// The behaviours of test cards.
const (
	approves       = "approves"
	declines       = "declines"
	insufficient   = "insufficient_funds"
	stolen         = "stolen" // ends the payment
	challenges     = "challenges"
	slow           = "slow"            // the bank needs a while
	slowDeclines   = "slow_declines"   // and then says no
	silentCapture  = "silent_capture"  // the first capture is done, its answer lost
	refusesCapture = "refuses_capture" // the bank keeps the money
	selfCaptures   = "self_captures"   // takes the money at once, as transfers do
	refundPends    = "refund_pends"
	refundFails    = "refund_fails"
)

// Card is a test card.
type Card struct {
	Number    string
	Behaviour string
	Says      string // what the payment page's list of test cards says about it
}

// Cards are all test cards. Any future expiry date and any three digits as
// security code do.
var Cards = []Card{
	{"4242424242424242", approves, "Pays"},
	{"4000000000000002", declines, "Is declined; another card may be tried"},
	{"4000000000009995", insufficient, "Has not enough money; another card may be tried"},
	{"4000000000009979", stolen, "Is reported stolen: the payment fails for good"},
	{"4000000000003220", challenges, "Asks for 3-D Secure"},
	{"4000000000000077", slow, "The bank needs a few seconds, then pays"},
	{"4000000000000085", slowDeclines, "The bank needs a few seconds, then declines"},
	{"4000000000000341", silentCapture, "Pays, but the provider's answer to the shop is lost once"},
	{"4000000000000101", refusesCapture, "Reserves the money, then will not give it"},
	{"4000000000000127", selfCaptures, "Takes the money at once, as a bank transfer does"},
	{"4000000000007726", refundPends, "Pays; a refund needs a few seconds"},
	{"4000000000005126", refundFails, "Pays; a refund fails"},
}

// cardOf finds the test card of what a fan typed.
func cardOf(number string) (Card, bool) {
	number = strings.NewReplacer(" ", "", "-", "").Replace(number)
	for _, c := range Cards {
		if c.Number == number {
			return c, true
		}
	}
	return Card{}, false
}
