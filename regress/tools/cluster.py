"""Several nodes on one chain, and what their tests need: apps that speak to
each node, nodes of the deployed kind among them, proxies before them, links
between them that can be cut.

    with Cluster(3, "sync-interval 1s\\n") as cluster:
        alice = cluster.new_app(100, "alice")
        alice[0].put("k", b"v")                 # an App of node 0
        cluster.level(alice)                    # all hold the same
        cluster[1].kill()
        cluster[1].start()
"""
import contextlib
import json
import os
import signal
import shutil
import subprocess
import tempfile
import time
import urllib.parse

import netns as namespaces
from deployed_peer import DeployedPeer
from probe import (CAPSULE, App, Capsule, Chain, Node, Refused, alive, check,
                   children_of, free_port, keccak256, program, until)
from tcp_proxy import TcpProxy

KMS_APP = 49
READY = 30  # seconds: bootstrap takes blocks, and machines are loaded
LEVEL = 30
# So that a test sees in seconds what takes minutes in the field.
QUICK = """node-tick 1s
sync-interval 1s
peer-cache-ttl 2s
registry-cache-ttl 5s
drain-timeout 3s
"""


class Anvil:
    """A real EVM with the contracts; as probe's Chain."""

    def __init__(self, directory, host="127.0.0.1"):
        self.log_path = f"{directory}/chain.log"
        self.port = free_port()
        self.url = f"http://{host}:{self.port}"
        self.shell("bash regress/contracts build", evm=False)
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen(
                ["contracts/node_modules/@foundry-rs/anvil-linux-amd64/bin/"
                 "anvil", "--host", host, "--port", str(self.port),
                 "--chain-id", "31337"], stdout=log, stderr=log,
                stdin=subprocess.DEVNULL)
        try:
            until(lambda: self.shell("evm_up", fails=True), "anvil answers")
            self.shell("evm_deploy")
        except BaseException:
            self.stop()
            raise

    def shell(self, command, evm=True, fails=False):
        script = f"RPC={self.url}; . regress/evm.sh; {command}" if evm \
            else command
        done = subprocess.run(["bash", "-c", script], text=True,
                              capture_output=True, stdin=subprocess.DEVNULL)
        check(fails or done.returncode == 0, command, done.stdout,
              done.stderr)
        return done.stdout if evm and not fails else done.returncode == 0

    call = Chain.call

    def events(self, signature):
        """Of KMSRegistry, since the beginning."""
        return self.call("eth_getLogs", {
            "address": "0xe7f1725e7734ce288f8367e1bb143e90bb3f0512",
            "fromBlock": "0x0",
            "topics": ["0x" + keccak256(signature.encode()).hex()]})

    def stop(self):
        self.process.kill()
        self.process.wait()


class ClusterNode(Node):
    """Node n of a cluster: its files are in the cluster's directory, its
    chain is the cluster's."""

    def __init__(self, cluster, number, conf):
        self.cluster, self.number, self.chain = cluster, number, None
        self.dir = f"{cluster.dir}/node{number}"
        os.mkdir(self.dir, 0o755)
        self.process = self.space = self.proxy = self.capsule = None
        self.libexec, self.user, self.wrap = None, None, ()
        self.kmsd, self.seen = program("kmsd"), set()
        self.prefix = ()
        if cluster.netns:
            self.space = namespaces.Namespace(number + 1)
            self.host, self.prefix = self.space.host, self.space.prefix
        self.port = free_port()
        self.url = f"http://{self.host}:{self.port}"
        if cluster.proxies:
            make = TcpProxy if cluster.proxies is True else cluster.proxies
            self.proxy = make((self.host, self.port))
        self.registered_url = self.proxy.url if self.proxy else self.url
        self.log_path = f"{self.dir}/node.log"
        self.identity = f"{self.dir}/node.json"
        self.env = dict(os.environ, KMS_RPC=cluster.chain.url,
                        KMS_NODE=self.url)
        self.kmsctl("keygen", "--out", self.identity)
        if CAPSULE:
            self.capsule = Capsule(self.dir, self.identity, self.prefix)
        self.write_conf(cluster.chain.url, conf)
        with open(self.identity) as f:
            self.wallet = json.load(f)["wallet"].lower()

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        with open(self.log_path, "a") as log:
            self.process = subprocess.Popen(
                [*self.prefix, self.kmsd, "-v", "-f", self.conf], stdout=log,
                stderr=log, stdin=subprocess.DEVNULL)

    def kill(self, role=None):
        """SIGKILL to one of its processes, or to kmsd, with which all end."""
        if role:
            os.kill(self.all_roles()[role], signal.SIGKILL)
            return
        children = children_of(self.pid)
        self.process.kill()
        self.process.wait()
        until(lambda: not any(map(alive, children)),
              "its children end with it")

    def restart(self, signum=signal.SIGTERM):
        """Stopped and started, its memory empty."""
        self.stop(signum)
        self.start()

    def status(self):
        got = self.get("/status")
        return got and got[2]

    def serves(self):
        status = self.status()
        return status and status["node"]["service_available"]

    def reason(self):
        status = self.status()
        return status and status["node"]["unavailable_reason"]

    def wait_ready(self, seconds=READY):
        try:
            until(self.ready, "ready", seconds)
        except AssertionError:
            check(False, f"node {self.number} is not ready:", self.reason())

    def close(self):
        with contextlib.suppress(Exception):
            if self.process is not None and self.process.poll() is None:
                for pid in children_of(self.pid):
                    os.kill(pid, signal.SIGCONT)
                self.process.send_signal(signal.SIGCONT)
                self.stop()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.capsule:
            self.capsule.kill()
        if self.proxy:
            self.proxy.close()
        if self.space:
            self.space.close()

    def metric(self, name):
        """The sum of a metric's samples, None when there is none."""
        got = self.get("/metrics")
        rows = [line.rsplit(" ", 1) for line in
                (got[2] if isinstance(got[2], str) else
                 got[2].decode()).splitlines()
                if line.split("{")[0].split(" ")[0] == name]
        return sum(float(v) for _, v in rows) if rows else None


class Cluster:
    """conf: more lines for all; confs: number -> more lines for one;
    proxies: each node is called through a proxy of its own, True for a
    TcpProxy, or what makes one of an address; netns: each is in a network
    namespace (call netns.enter first). start=False: the nodes are registered,
    and start() starts them."""

    def __init__(self, count=3, conf="", confs=None, chain="sim",
                 netns=False, proxies=False, start=True):
        self.netns, self.proxies = netns, proxies
        self.dir = tempfile.mkdtemp(prefix="kms-test.")
        os.chmod(self.dir, 0o755)
        self.nodes, self.deployed, self.chain = [], [], None
        self.instances, self.apps = 0, set()
        self.cuts = namespaces.Cuts()
        self.kind = chain
        try:
            host = namespaces.CHAIN if netns else "127.0.0.1"
            self.chain = (Chain if chain == "sim" else Anvil)(self.dir, host)
            for i in range(count):
                self.add(conf + (confs or {}).get(i, ""))
            if start:
                self.start()
                self.wait_ready()
        except BaseException:
            self.dump()
            self.close()
            raise

    def __getitem__(self, number):
        return self.nodes[number]

    def __iter__(self):
        return iter(self.nodes)

    def __len__(self):
        return len(self.nodes)

    # -- members

    def register(self, identity, app_id, url):
        """An ACTIVE instance of that app, on either chain."""
        if self.kind == "sim":
            self.kmsctl("--identity", identity, "sim", "register", "--app",
                        str(app_id), "--url", url)
            return
        self.instances += 1
        made = ""
        if app_id != KMS_APP and app_id not in self.apps:
            self.apps.add(app_id)
            made = f"evm_app {app_id} 0x{'00' * 20} && "
        # Blocks on demand meanwhile, and every second after it.
        self.chain.shell(
            f"evm_on_demand && {made}"
            f"evm_instance {identity} {self.instances} {app_id} {url} && "
            f"evm_fund $(evm_member {identity} wallet) 0xde0b6b3a7640000 && "
            "evm_every 1")

    def set_instance(self, wallet, **members):
        """Change an instance on a simulated chain: status="STOPPED"."""
        state = self.chain.call("sim_state")
        instance = next(i for i in state["instances"]
                        if i["tee_wallet"].lower() == wallet)
        self.chain.call("sim_setInstance", dict(instance, **members))

    def kmsctl(self, *args):
        env = dict(os.environ, KMS_RPC=self.chain.url)
        done = subprocess.run([program("kmsctl"), *args], env=env, text=True,
                              capture_output=True, stdin=subprocess.DEVNULL)
        check(done.returncode == 0, "kmsctl", args, done.stderr)
        return done.stdout

    def add(self, conf=""):
        """One more node, registered; not started."""
        node = ClusterNode(self, len(self.nodes), QUICK + conf)
        self.nodes.append(node)
        self.register(node.identity, KMS_APP, node.registered_url)
        return node

    def add_deployed(self, cls=DeployedPeer, **options):
        """One more node, of the deployed kind; it has no secret yet."""
        path = f"{self.dir}/deployed{len(self.deployed)}.json"
        self.kmsctl("keygen", "--out", path)
        with open(path) as f:
            identity = json.load(f)
        if self.netns:
            options.setdefault("host", namespaces.CHAIN)
        peer = cls(self.chain.url, identity, **options)
        self.deployed.append(peer)
        self.register(path, KMS_APP, peer.url)
        return peer

    def new_app(self, app_id, name):
        """An app's instance: a list of App, one for each node of ours."""
        path = f"{self.dir}/{name}.json"
        self.kmsctl("keygen", "--out", path)
        self.register(path, app_id, "http://127.0.0.1")
        return [App(node, path, app_id) for node in self.nodes]

    # -- running

    def start(self):
        for node in self.nodes:
            node.start()

    def wait_ready(self, nodes=None, seconds=READY):
        end = time.monotonic() + seconds
        for node in nodes or self.nodes:
            node.wait_ready(max(1, end - time.monotonic()))

    def secret_hash(self):
        return self.chain.call(
            "eth_call", {"to": "0xe7f1725e7734ce288f8367e1bb143e90bb3f0512",
                         "data": "0x" + keccak256(
                             b"masterSecretHash()")[:4].hex()}, "latest")

    def wallets(self):
        return {node.wallet for node in self.nodes}

    # -- what the nodes hold

    @staticmethod
    def seen(app, look):
        """look(app), None while the node does not serve."""
        try:
            return look(app)
        except (OSError, EOFError):
            app.drop()
        except Refused as refused:
            # One that went away in between is looked for again.
            check(refused.status in (404, 410, 429, 503), refused)
        return None

    @staticmethod
    def keys(app):
        return app.call("GET", "/kms/data")["keys"]

    @classmethod
    def holding(cls, app):
        """key -> value of all that this app sees on that node; None while it
        does not serve."""
        return cls.seen(app, lambda app: {
            key: app.value(urllib.parse.quote(key)) for key in cls.keys(app)})

    def level(self, apps, expected=None, deployed=(), seconds=LEVEL):
        """Until all these (Apps of nodes, and deployed peers) hold the same
        for the app, which is expected, if that is given; returns it."""
        app_id = apps[0].app_id
        views = []

        def agree(look, first):
            views[:] = [self.seen(app, look) for app in apps]
            first = views[0] if first is None else first
            return first is not None and all(v == first for v in views)

        def same():
            # Values are looked at when the keys are right.
            if not agree(lambda app: set(self.keys(app)),
                         None if expected is None else set(expected)):
                return False
            if not agree(self.holding, expected):
                return False
            views.extend(peer.listing(app_id) for peer in deployed)
            return all(view == views[0] for view in views)
        try:
            until(same, "the nodes are level", seconds)
        except AssertionError:
            check(False, f"app {app_id} is not level:", *map(
                self.brief, [] if expected is None else [expected]),
                  "|", *map(self.brief, views))
        return views[0]

    @staticmethod
    def replicated(app, key, value, count):
        """Written until that many peers are known, and hold it."""
        def met():
            try:
                return app.put(key, value, min_replicas=count)["replicas_met"]
            except Refused as refused:
                check(refused.status in (400, 429, 503), refused)
                return False
        until(met, f"{count} replicas of {key}", LEVEL)

    @staticmethod
    def brief(view):
        if view is None:
            return "(does not serve)"
        some = sorted(view.items() if isinstance(view, dict) else view)[:8]
        return f"{len(view)}: {repr(some)[:300]}"

    # -- the end

    def dump(self):
        for node in self.nodes:
            print(f"---- node {node.number}: {node.wallet}", flush=True)
            node.dump()
        for i, peer in enumerate(self.deployed):
            print(f"---- deployed {i}: {peer.wallet} refused",
                  peer.refused[-10:], flush=True)

    def close(self):
        for peer in self.deployed:
            with contextlib.suppress(Exception):
                peer.close()
        for node in self.nodes:
            node.close()
        if self.chain:
            self.chain.stop()
        with contextlib.suppress(AssertionError):
            self.cuts.heal()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            self.dump()
        self.close()
