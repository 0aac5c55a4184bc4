// Package stanchion is the root of the module of Stanchion, the open-source
// front door for ticket on-sales: an edge that admits nobody past it without a
// pass, a provably fair virtual waiting room, and the compact back end that
// sells the seats behind it.
//
// There is no code here. The program is cmd/stanchion; edge, queue, core,
// inventory, admin and config are its families of packages; pass and
// queue/line are the small kernels that others may build on. The tests in this
// folder hold the rules that apply to the module as a whole: which package may
// import which, that each says what it is for, and what may be in the tree.
package stanchion
