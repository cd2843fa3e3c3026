import { describe, expect, test } from "bun:test";
import type { V1ContainerState, V1Pod, V1PodStatus } from "@kubernetes/client-node";
import { isAbandoned, podState } from "../../../src/provisioners/kubernetes/pod-state.ts";

function pod(status: V1PodStatus, deletionTimestamp?: string): V1Pod {
  const deleted = deletionTimestamp === undefined ? {} : { deletionTimestamp: new Date(deletionTimestamp) };
  return { metadata: { name: "p", ...deleted }, status };
}

function container(state: V1ContainerState, name = "sandbox") {
  return { name, image: "team/python:3.12", imageID: "", ready: false, restartCount: 0, state };
}

function waiting(reason: string, message = ""): V1PodStatus {
  return { phase: "Pending", containerStatuses: [container({ waiting: { reason, message } })] };
}

function condition(type: string, status: string, reason: string, message: string) {
  return { type, status, reason, message };
}

describe("a Pod that starts", () => {
  test("waits without a cause at first", () => {
    expect(podState(pod({}))).toEqual({ kind: "starting", waitsFor: null });
    expect(podState(pod(waiting("ContainerCreating")))).toEqual({ kind: "starting", waitsFor: expect.anything() });
  });

  test("says that no node takes it", () => {
    const conditions = [condition("PodScheduled", "False", "Unschedulable", "0/1 nodes: Insufficient cpu.")];
    expect(podState(pod({ phase: "Pending", conditions }))).toEqual({
      kind: "starting",
      waitsFor: "no node takes the Pod (Unschedulable: 0/1 nodes: Insufficient cpu.)",
    });
  });

  test("is running once its container is and it has an address", () => {
    const containerStatuses = [container({ running: {} })];
    expect(podState(pod({ phase: "Running", containerStatuses }))).toMatchObject({ kind: "starting" });
    const running = podState(pod({ phase: "Running", podIP: "10.0.0.7", containerStatuses }));
    expect(running).toEqual({ kind: "running", address: "10.0.0.7" });
  });
});

describe("a Pod that never will run", () => {
  test.each(["ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"])("%s", (reason) => {
    expect(podState(pod(waiting(reason, "Back-off pulling image")))).toEqual({
      kind: "unstartable",
      isImage: true,
      reason: `the image team/python:3.12 can't be pulled (${reason}: Back-off pulling image)`,
    });
  });

  test("a first pull that failed is waited out unless the registry refused", () => {
    expect(podState(pod(waiting("ErrImagePull", "dial tcp: i/o timeout"))).kind).toBe("starting");
    expect(podState(pod(waiting("ErrImagePull", "docker.io/x: not found"))).kind).toBe("unstartable");
    expect(podState(pod(waiting("ErrImagePull", "pull access denied"))).kind).toBe("unstartable");
  });

  test("its container can't be made", () => {
    expect(podState(pod(waiting("CreateContainerError", "no command")))).toEqual({
      kind: "unstartable",
      isImage: false,
      reason: "the container can't be started (CreateContainerError: no command)",
    });
  });

  test("the image of its init container is missing", () => {
    const state = container({ waiting: { reason: "ErrImageNeverPull" } }, "executable");
    expect(podState(pod({ phase: "Pending", initContainerStatuses: [state] })).kind).toBe("unstartable");
  });
});

describe("a Pod that ended", () => {
  test.each<[string, V1PodStatus, string]>([
    [
      "evicted",
      { phase: "Failed", reason: "Evicted", message: "Pod ephemeral local storage usage exceeds 1Gi." },
      "the Pod was evicted (Pod ephemeral local storage usage exceeds 1Gi.)",
    ],
    ["lost with its node", { phase: "Failed", reason: "NodeLost" }, "the Pod's node was lost"],
    [
      "preempted",
      { phase: "Failed", conditions: [condition("DisruptionTarget", "True", "PreemptionByScheduler", "for another")] },
      "the Pod was evicted (PreemptionByScheduler: for another)",
    ],
    [
      "out of memory",
      { phase: "Failed", containerStatuses: [container({ terminated: { exitCode: 137, reason: "OOMKilled" } })] },
      "the Pod ran out of memory",
    ],
    [
      "by an exit",
      { phase: "Failed", containerStatuses: [container({ terminated: { exitCode: 2, reason: "Error" } })] },
      "the container sandbox ended with 2 (Error)",
    ],
    ["with success", { phase: "Succeeded" }, "the Pod ended"],
    [
      "refused by its node",
      { phase: "Failed", reason: "OutOfcpu", message: "Node didn't have enough resource" },
      "the Pod failed (OutOfcpu: Node didn't have enough resource)",
    ],
  ])("%s", (_, status, reason) => {
    expect(podState(pod(status))).toEqual({ kind: "ended", reason });
  });

  test("before its phase says so", () => {
    const containerStatuses = [container({ terminated: { exitCode: 0 } })];
    expect(podState(pod({ phase: "Running", podIP: "10.0.0.7", containerStatuses })).kind).toBe("ended");
  });
});

describe("a Pod that is being deleted", () => {
  const DELETED_AT = "2025-01-02T00:00:00Z";

  test("may still answer until its containers have ended", () => {
    const containerStatuses = [container({ running: {} })];
    const ending = podState(pod({ phase: "Running", podIP: "10.0.0.7", containerStatuses }, DELETED_AT));
    expect(ending).toEqual({ kind: "ending", reason: "the Pod was deleted", address: "10.0.0.7" });
    const ended = podState(pod({ phase: "Failed", podIP: "10.0.0.7" }, DELETED_AT));
    expect(ended).toMatchObject({ kind: "ending", address: null });
  });

  test("is abandoned when its node does not confirm", () => {
    const late = (seconds: number): Date => new Date(Date.parse(DELETED_AT) + seconds * 1000);
    expect(isAbandoned(pod({}, DELETED_AT), late(5))).toBe(false);
    expect(isAbandoned(pod({}, DELETED_AT), late(11))).toBe(true);
    expect(isAbandoned(pod({}), late(11))).toBe(false);
  });
});
