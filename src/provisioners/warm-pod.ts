/** A Pod that was started ahead, from the moment it is planned until it is gone. Field names are the columns'. */
export type WarmPod = {
  name: string;
  /** What it fits, as a digest of all that can't be bound late. */
  pool: string;
  template_id: string;
  /** Its place in the pool, from 0; null once a session has it. Each place is taken by one Pod at most. */
  slot: number | null;
  /** The session that has it; null while it is nobody's. */
  session_id: string | null;
  created_at: string;
  /** Since when it can be claimed; null before. */
  ready_at: string | null;
};

/** The Pods of all warm pools, shared by all replicas: each change is one conditional statement, so that one of them wins. */
export interface WarmPodStore {
  /** Takes a place for a Pod that is to be started. False when the place is taken. */
  plan(pod: Pick<WarmPod, "name" | "pool" | "template_id" | "created_at"> & { slot: number }): Promise<boolean>;
  /** From now on it can be claimed. False when it was withdrawn meanwhile. */
  ready(name: string, at: string): Promise<boolean>;
  /** Names of the Pods of a pool that can be claimed, oldest first. */
  claimable(pool: string, limit: number): Promise<string[]>;
  /** Gives a Pod that can be claimed to a session that has none. False when either is not so (any more). */
  claim(name: string, sessionId: string): Promise<boolean>;
  /** Name of the Pod that was given to the session. */
  ofSession(sessionId: string): Promise<string | null>;
  list(): Promise<WarmPod[]>;
  /** Forgets a Pod that is nobody's. False when it is a session's, or not there. */
  withdraw(name: string): Promise<boolean>;
  /** Forgets the Pod of a session. */
  forget(name: string, sessionId: string): Promise<void>;
}
