// Package journeys walks through the built program as people do, in a real browser (build tag ui): fans with and without JavaScript
// and with the keyboard alone, and an operator. Package officetest below it holds the core's pages and API to their rules without
// a browser and without the other roles.
package journeys
