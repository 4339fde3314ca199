/**
 * `berth kube`: the API server's side, a process of its own. It holds cluster credentials and no root, and what it does is
 * never needed: without the API server, or without this process, pods run and are made as ever.
 */
import { connect } from "../cli/client.js";
import type { Log } from "../log.js";
import { ApiClient } from "./api-client.js";
import { type CredentialSource, Credentials } from "./credentials.js";
import { EventSender } from "./event-sender.js";
import { followHappenings } from "./happenings.js";
import { Informer, type InformerTiming } from "./informer.js";
import { tellNodeStatus } from "./node-status.js";
import { type ListenAddress, serveOwners } from "./owner-metrics.js";
import { podEventsOf, toldTypes } from "./pod-events.js";
import {
  imagesOfPending,
  imagesOfRolling,
  type KnownDaemonSet,
  type KnownPod,
  keepDaemonSet,
  keepImageList,
  keepPod,
} from "./pods.js";
import { Prefetcher } from "./prefetcher.js";
import { Said } from "./said.js";

export interface KubeOptions {
  /** the agent's: "unix:///PATH" */
  socket: string;
  source: CredentialSource;
  /** the node's name in the cluster */
  node: string;
  /** null: nothing is prefetched */
  prefetch: {
    /** 0: no limit */
    bytesPerSecond: number;
    /** "NAMESPACE/NAME" */
    configMap: { namespace: string; name: string };
  } | null;
  /** of /metrics; null: nowhere */
  metrics: ListenAddress | null;
  log: Log;
  signal: AbortSignal;
  timing?: Partial<InformerTiming>;
}

/** Until the signal. @throws Error: the credentials cannot be used at all */
export async function runKube(options: KubeOptions): Promise<void> {
  const { node, log, signal, timing = {} } = options;
  const said = new Said(log);
  const credentials = new Credentials(options.source, said);
  // what is wrong in the configuration is told at once, and not by a loop
  const { server } = await credentials.current();
  const api = new ApiClient(credentials, said);
  const client = connect(options.socket);
  const watched = { api, said, signal, timing };
  log.info({ server: server.origin, node, socket: options.socket }, "begins");

  let pods: ReadonlyMap<string, KnownPod> = new Map();
  if (options.metrics !== null) {
    const where = await serveOwners(options.metrics, () => pods.values(), signal);
    log.info({ where }, "serves metrics");
  }
  const events = new EventSender({ api, said, node, signal });
  const work = [
    events.run(),
    tellNodeStatus({ api, client, said, node, signal }),
    followHappenings({
      client,
      types: toldTypes,
      said,
      signal,
      onHappening: (happening) => {
        for (const event of podEventsOf(happening, pods.values())) events.offer(event);
      },
    }),
  ];
  let onPods = () => {};
  if (options.prefetch !== null) {
    const { bytesPerSecond, configMap } = options.prefetch;
    const prefetcher = new Prefetcher({ client, bytesPerSecond, log, signal });
    let daemonSets: ReadonlyMap<string, KnownDaemonSet> = new Map();
    onPods = () => {
      prefetcher.want("pods", imagesOfPending(pods.values()));
      prefetcher.want("daemonsets", imagesOfRolling(pods.values(), daemonSets));
    };
    const onDaemonSets = (items: ReadonlyMap<string, KnownDaemonSet>) => {
      daemonSets = items;
      onPods();
    };
    work.push(
      prefetcher.run(),
      new Informer({
        ...watched,
        path: "/apis/apps/v1/daemonsets",
        keep: keepDaemonSet,
        onChange: onDaemonSets,
      }).run(),
      new Informer({
        ...watched,
        path: `/api/v1/namespaces/${encodeURIComponent(configMap.namespace)}/configmaps`,
        fieldSelector: `metadata.name=${configMap.name}`,
        keep: keepImageList,
        onChange: (lists) => prefetcher.want("configmap", [...lists.values()].flat()),
      }).run(),
    );
  }
  const onChange = (items: ReadonlyMap<string, KnownPod>) => {
    pods = items;
    onPods();
  };
  work.push(
    new Informer({
      ...watched,
      path: "/api/v1/pods",
      fieldSelector: `spec.nodeName=${node}`,
      keep: keepPod,
      onChange,
    }).run(),
  );
  await Promise.all(work);
  client.close();
}
