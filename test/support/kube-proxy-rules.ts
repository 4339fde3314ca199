/** What kube-proxy writes for one service with a cluster address and a node port, in each of its two ways. */
export interface TestService {
  clusterIp: string;
  port: number;
  nodePort: number;
  pod: string;
  podPort: number;
  podSubnet: string;
}

/** For iptables-restore --noflush: mode iptables. */
export function iptablesRules({ clusterIp, port, nodePort, pod, podPort, podSubnet }: TestService): string {
  return `*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-SVC-BERTHTEST - [0:0]
:KUBE-EXT-BERTHTEST - [0:0]
:KUBE-SEP-BERTHTEST - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-SERVICES -d ${clusterIp}/32 -p tcp -m tcp --dport ${port} -j KUBE-SVC-BERTHTEST
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-NODEPORTS -p tcp -m tcp --dport ${nodePort} -j KUBE-EXT-BERTHTEST
-A KUBE-EXT-BERTHTEST -j KUBE-MARK-MASQ
-A KUBE-EXT-BERTHTEST -j KUBE-SVC-BERTHTEST
-A KUBE-SVC-BERTHTEST ! -s ${podSubnet} -d ${clusterIp}/32 -p tcp -m tcp --dport ${port} -j KUBE-MARK-MASQ
-A KUBE-SVC-BERTHTEST -j KUBE-SEP-BERTHTEST
-A KUBE-SEP-BERTHTEST -s ${pod}/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-BERTHTEST -p tcp -m tcp -j DNAT --to-destination ${pod}:${podPort}
COMMIT
*filter
:KUBE-FORWARD - [0:0]
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
`;
}

/** For nft: mode nftables. */
export function nftablesRules({ clusterIp, port, nodePort, pod, podPort, podSubnet }: TestService): string {
  return `table ip kube-proxy {
  map service-ips { type ipv4_addr . inet_proto . inet_service : verdict;
    elements = { ${clusterIp} . tcp . ${port} : goto service-berth }; }
  map service-nodeports { type inet_proto . inet_service : verdict;
    elements = { tcp . ${nodePort} : goto external-berth }; }
  chain mark-for-masquerade { meta mark set mark or 0x4000; }
  chain masquerading {
    meta mark & 0x4000 == 0 return
    meta mark set mark xor 0x4000
    masquerade fully-random
  }
  chain external-berth { jump mark-for-masquerade; goto service-berth; }
  chain service-berth {
    ip daddr ${clusterIp} tcp dport ${port} ip saddr != ${podSubnet} jump mark-for-masquerade
    goto endpoint-berth
  }
  chain endpoint-berth { ip saddr ${pod} jump mark-for-masquerade; meta l4proto tcp dnat to ${pod}:${podPort}; }
  chain services {
    ip daddr . meta l4proto . th dport vmap @service-ips
    fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @service-nodeports
  }
  chain nat-prerouting { type nat hook prerouting priority dstnat; policy accept; jump services; }
  chain nat-output { type nat hook output priority -100; policy accept; jump services; }
  chain nat-postrouting { type nat hook postrouting priority srcnat; policy accept; jump masquerading; }
  chain filter-forward { type filter hook forward priority -110; policy accept; ct state new jump unknown-services; }
  chain unknown-services { ip daddr ${clusterIp} reject; }
}
`;
}
