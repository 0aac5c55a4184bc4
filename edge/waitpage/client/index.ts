// A client of Stanchion's waiting rooms for web pages and apps: the public status, the fan's place, and everything that follows from
// both without asking anybody. It has no dependencies and works wherever there are fetch and WebCrypto.
//
//   const room = new Room("https://tickets.example/.stanchion/rooms/onsale");
//   const joined = await room.join();
//   const status = await room.status();
//   ahead(status.lanes[0], joined.place.rank);

export { ahead, estimate, nextPoll, readStatus, roundPeople } from "./status";
export type { Eta, Interval, Lane, Phase, Status } from "./status";
export { bases, lot, openRecord, rankOf, readTicket } from "./formats";
export type { Opening, Opened, Stamp, Ticket } from "./formats";
export { Problem, Room } from "./room";
export type { Claimed, Joined, Place, State } from "./room";
export { verifyPlace } from "./verify";
export type { Verdict } from "./verify";
