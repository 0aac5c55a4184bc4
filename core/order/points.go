package order

// The named points of the saga: places between two durable steps, where a kill
// test stops the process. Options.At is called with them.
const (
	PointHoldStored      = "hold-stored"     // the hold's row is there, the inventory not asked
	PointHoldAsked       = "hold-asked"      // the inventory answered, the answer is not stored
	PointHoldLetGo       = "hold-let-go"     // a release is stored, the inventory not asked
	PointOrderStored     = "order-stored"    // the draft is there, the fan has no answer
	PointPayingStored    = "paying-stored"   // checkout is stored, the pins are not asked for
	PointPinned          = "pinned"          // the inventory pinned, not stored
	PointCreateStored    = "create-stored"   // the provider is about to be asked for an intent
	PointCreated         = "created"         // it answered, not stored
	PointFetched         = "fetched"         // the provider's object was looked at, not applied
	PointSecuring        = "securing-stored" // claims are stored, nothing is sold
	PointSoldSome        = "sold-some"       // one hold is sold in the inventory
	PointSold            = "sold"            // all are, not stored
	PointSecured         = "secured-stored"  // the capture is about to be asked for
	PointCaptured        = "captured"        // the provider took the money, not stored
	PointPaid            = "paid-stored"     // tickets are there, the fan has no answer
	PointCancelStored    = "cancel-stored"   // the fan's cancel is stored, the provider not asked
	PointVoidStored      = "void-stored"     // a void is about to be asked for
	PointVoided          = "voided"          // the provider undid it, not stored
	PointTidyUnsold      = "tidy-unsold"     // seats are taken back in the inventory, claims are still there
	PointTidyDropped     = "tidy-dropped"    // claims are gone, seats are cooling
	PointTidyReopened    = "tidy-reopened"   // seats are on offer, not stored
	PointRefundStored    = "refund-stored"   // tickets are void, the money is not asked for
	PointRefundSent      = "refund-sent"     // the refund is about to be asked for
	PointRefundDone      = "refund-done"     // the provider gave the money back, not stored
	PointRefunded        = "refunded-stored" // the money is back, the seats are not
	PointWebhookStored   = "webhook-stored"  // a webhook is stored, nobody has been told
	PointRescueStored    = "rescue-stored"   // late money leads to another try for the seats
	PointLateStored      = "late-stored"     // late money is noticed, not decided about
	PointExtendPinStored = "pin-extended"    // the provider is silent, the pin was extended
)

// Points lists all named points.
var Points = []string{PointHoldStored, PointHoldAsked, PointHoldLetGo, PointOrderStored, PointPayingStored, PointPinned, PointCreateStored, PointCreated,
	PointFetched, PointSecuring, PointSoldSome, PointSold, PointSecured, PointCaptured, PointPaid, PointCancelStored, PointVoidStored, PointVoided,
	PointTidyUnsold, PointTidyDropped, PointTidyReopened, PointRefundStored, PointRefundSent, PointRefundDone, PointRefunded, PointWebhookStored,
	PointRescueStored, PointLateStored, PointExtendPinStored}
