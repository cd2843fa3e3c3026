/** Where the time of day comes from, so that tests can move it. Instants are `Date`s or ISO 8601 strings in UTC. */
export interface Clock {
  now(): Date;
}

export const systemClock: Clock = { now: () => new Date() };
