package shop

import (
	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/problem"
)

// What programs read is in package problem; these are the words for people: what happened, what it means for them, what to do.

// said is a refusal in a fan's words.
type said struct{ Title, Text string }

var words = map[*problem.Kind]said{
	problem.PassRequired: {"Your time in the shop is over", "Or you came here without a place in line. Nothing was charged, and seats that you held go back on sale."},
	problem.PassInvalid:  {"Your time in the shop is over", "Nothing was charged, and seats that you held go back on sale. What you have paid for stays yours."},
	problem.PassUsed:     {"You have your tickets", "A place in line buys once. To buy more, take a new place."},
	problem.HoldExpired:  {"Your seats are back on sale", "The time for which we kept them is over. You were not charged."},
	problem.NotFound:     {"There is nothing here", "The address leads nowhere, or the link is not complete. Copy it whole from where you have it."},
	problem.Revoked:      {"This ticket is no longer valid", "It was given back, or replaced by a newer one. The page of your order shows which tickets are good."},
	problem.NotPaid:      {"There are no tickets yet", "Tickets are made when the order is paid. The page of your order shows how far it is."},
	problem.Internal:     {"Something went wrong on our side", "Nothing was lost. Please reload the page in a moment."},
	problem.OneMoment:    {"One moment", "We could not reach a part of our shop. Nothing was lost; please try again."},
	problem.BlockFrozen:  {"These seats are being checked", "Please choose seats elsewhere, or try again in a minute."},
	problem.SeatsTaken:   {"Somebody else was faster", "Taken meanwhile:"},
	problem.NoSeatsLeft:  {"There are no free seats that fit", "Choose fewer seats, or another category. Seats come back when somebody lets them go."},
	problem.NoSeats:      {"No seats were chosen", "Choose seats on the map or in the list, and then hold them."},
	problem.TooManyHolds: {"These seats are too far apart", "One order takes seats from up to four parts of the house. Choose seats that lie closer together."},
	problem.SaleNotOpen:  {"The sale is not open", "You can look around, but not buy at the moment."},
	problem.AtTheCap:     {"There is no more time to add", "These seats cannot be kept for longer. Pay now, or let them go."},
	problem.PriceChanged: {"The price has changed", "Please look at the new price before you pay."},
	problem.KeyInFlight:  {"We are working on it", "You pressed the button more than once, and the first press counts. Please wait a moment and reload this page."},
	problem.KeyReused:    {"This page was used already", "Look at what you see now and press the button again."},
}

// inWords is a problem as a fan reads it; what has no words of its own says what programs read.
func inWords(p *problem.Problem) said {
	for kind, w := range words {
		if p.Of(kind) {
			return w
		}
	}
	return said{p.Title, p.Detail}
}

// declines are the provider's refusals in words.
var declines = map[string]string{
	"card_declined":         "The bank declined the card.",
	"insufficient_funds":    "There is not enough money on the card.",
	"stolen_card":           "The bank has blocked the card.",
	"expired_card":          "The card has expired.",
	"authentication_failed": "The bank could not confirm that it is you.",
	"capture_refused":       "The bank would not give the money.",
	"abandoned":             "You left the payment page without paying.",
}

func declined(code string) string {
	if w := declines[code]; w != "" {
		return w
	}
	return "The payment provider said no."
}

// refundWords say what became of a unit that was given back.
var refundWords = map[order.UnitState]string{
	order.UnitRefunding: "No longer valid. The money is on its way back.",
	order.UnitRefunded:  "No longer valid. The money was sent back.",
	order.UnitCooling:   "No longer valid. The money was sent back.",
	order.UnitReturned:  "No longer valid. The money was sent back.",
}

// closedWords say why an unpaid order ended.
var closedWords = map[order.Cause]string{
	order.ByFan:      "You cancelled it.",
	order.ByTimer:    "The time to pay ran out.",
	order.ByPayment:  "No payment went through.",
	order.BySeats:    "The seats were lost before the payment was safe.",
	order.ByCapture:  "The bank would not give the money.",
	order.ByLateness: "The payment came too late.",
	order.ByReview:   "We could not accept the payment.",
	order.ByEvent:    "The performance was cancelled.",
}
