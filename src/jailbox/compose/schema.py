"""
The compose specification as shapes: every key that there is, and what it takes.

The keys and kinds are those of the published schema (compose-spec.json of the compose
specification); the tests hold this table against it.
"""

from jailbox.compose.shape import Anything, Either, Keys, ListOf, MapOf, Scalar, Shape

__all__ = ["DOCUMENT", "SERVICE"]

NAME = r"[a-zA-Z0-9._-]+"

TEXT = Scalar(("string",))
BOOLEAN = Scalar(("boolean", "string"), cast="boolean")
INTEGER = Scalar(("integer", "string"), cast="integer")
NUMBER = Scalar(("number", "string"), cast="number")
# Sizes and counts that are read later, by their own rules.
AMOUNT = Scalar(("number", "string"))
ANY_SCALAR = Scalar(("string", "number", "boolean", "null"))
NOTHING = Scalar(("null",))

TEXTS = ListOf(TEXT)
DISTINCT = ListOf(TEXT, unique=True)
# Where a later entry replaces an earlier one, the same twice is no mistake.
ONE_OR_MORE = Either((TEXT, TEXTS))
LABELS = Either((MapOf(ANY_SCALAR), TEXTS))
OPTIONS = MapOf(Scalar(("string", "number")))
COMMAND = Either((NOTHING, TEXT, ListOf(TEXT)))
HOSTS = Either((MapOf(Either((TEXT, ListOf(TEXT)))), TEXTS))
EXTERNAL = Either((BOOLEAN, Keys({"name": TEXT})))

ULIMITS = MapOf(
    Either((INTEGER, Keys({"soft": INTEGER, "hard": INTEGER}, ("soft", "hard")))),
    keys="[a-z]+",
)
GRANT = Either(
    (
        TEXT,
        Keys(
            {
                "source": TEXT,
                "target": TEXT,
                "uid": TEXT,
                "gid": TEXT,
                "mode": AMOUNT,
            }
        ),
    )
)
GRANTS = ListOf(GRANT)

BUILD = Keys(
    {
        "context": TEXT,
        "dockerfile": TEXT,
        "dockerfile_inline": TEXT,
        "entitlements": ListOf(TEXT),
        "args": LABELS,
        "ssh": LABELS,
        "labels": LABELS,
        "cache_from": ListOf(TEXT),
        "cache_to": ListOf(TEXT),
        "no_cache": BOOLEAN,
        "no_cache_filter": ONE_OR_MORE,
        "additional_contexts": LABELS,
        "network": TEXT,
        "provenance": Scalar(("string", "boolean")),
        "sbom": Scalar(("string", "boolean")),
        "pull": BOOLEAN,
        "target": TEXT,
        "shm_size": AMOUNT,
        "extra_hosts": HOSTS,
        "isolation": TEXT,
        "privileged": BOOLEAN,
        "secrets": GRANTS,
        "tags": ListOf(TEXT),
        "ulimits": ULIMITS,
        "platforms": ListOf(TEXT),
    }
)

_BLKIO_RATE = ListOf(Keys({"path": TEXT, "rate": AMOUNT}, extensible=False))
_BLKIO_WEIGHT = ListOf(Keys({"path": TEXT, "weight": INTEGER}, extensible=False))
BLKIO = Keys(
    {
        "device_read_bps": _BLKIO_RATE,
        "device_read_iops": _BLKIO_RATE,
        "device_write_bps": _BLKIO_RATE,
        "device_write_iops": _BLKIO_RATE,
        "weight": INTEGER,
        "weight_device": _BLKIO_WEIGHT,
    },
    extensible=False,
)

DEPENDENCY = Keys(
    {
        "restart": BOOLEAN,
        "required": Scalar(("boolean",), cast="boolean"),
        "condition": Scalar(
            ("string",),
            among=(
                "service_started",
                "service_healthy",
                "service_completed_successfully",
            ),
        ),
    },
    ("condition",),
)

HOOK = Keys(
    {
        "command": COMMAND,
        "user": TEXT,
        "privileged": BOOLEAN,
        "working_dir": TEXT,
        "environment": LABELS,
    },
    ("command",),
)

PREPARATION = Keys(
    {
        **HOOK.known,
        "image": TEXT,
        "entrypoint": COMMAND,
        "networks": Anything(),
        "volumes": ListOf(Anything()),
    },
    ("command",),
)

HEALTHCHECK = Keys(
    {
        "disable": BOOLEAN,
        "interval": TEXT,
        "retries": Scalar(("number", "string"), cast="integer"),
        "test": Either((TEXT, ListOf(TEXT))),
        "timeout": TEXT,
        "start_period": TEXT,
        "start_interval": TEXT,
    }
)

_UPDATE = Keys(
    {
        "parallelism": INTEGER,
        "delay": TEXT,
        "failure_action": TEXT,
        "monitor": TEXT,
        "max_failure_ratio": NUMBER,
        "order": Scalar(("string",), among=("start-first", "stop-first")),
    }
)
_DEVICE_REQUEST = {
    "capabilities": TEXTS,
    "count": Scalar(("string", "integer")),
    "device_ids": TEXTS,
    "driver": TEXT,
    "options": LABELS,
}
DEPLOY = Either(
    (
        NOTHING,
        Keys(
            {
                "mode": TEXT,
                "endpoint_mode": TEXT,
                "replicas": INTEGER,
                "labels": LABELS,
                "rollback_config": _UPDATE,
                "update_config": _UPDATE,
                "resources": Keys(
                    {
                        "limits": Keys(
                            {"cpus": AMOUNT, "memory": TEXT, "pids": INTEGER}
                        ),
                        "reservations": Keys(
                            {
                                "cpus": AMOUNT,
                                "memory": TEXT,
                                "generic_resources": ListOf(
                                    Keys(
                                        {
                                            "discrete_resource_spec": Keys(
                                                {"kind": TEXT, "value": NUMBER}
                                            )
                                        }
                                    )
                                ),
                                "devices": ListOf(Keys(_DEVICE_REQUEST)),
                            }
                        ),
                    }
                ),
                "restart_policy": Keys(
                    {
                        "condition": TEXT,
                        "delay": TEXT,
                        "max_attempts": INTEGER,
                        "window": TEXT,
                    }
                ),
                "placement": Keys(
                    {
                        "constraints": ListOf(TEXT),
                        "preferences": ListOf(Keys({"spread": TEXT})),
                        "max_replicas_per_node": INTEGER,
                    }
                ),
            }
        ),
    )
)

DEVELOP = Either(
    (
        NOTHING,
        Keys(
            {
                "watch": ListOf(
                    Keys(
                        {
                            "ignore": ONE_OR_MORE,
                            "include": ONE_OR_MORE,
                            "path": TEXT,
                            "action": Scalar(
                                ("string",),
                                among=(
                                    "rebuild",
                                    "sync",
                                    "restart",
                                    "sync+restart",
                                    "sync+exec",
                                ),
                            ),
                            "target": TEXT,
                            "exec": HOOK,
                            "initial_sync": Scalar(("boolean",), cast="boolean"),
                        },
                        ("path", "action"),
                    )
                )
            }
        ),
    )
)

ENDPOINT = Keys(
    {
        "aliases": TEXTS,
        "interface_name": TEXT,
        "ipv4_address": TEXT,
        "ipv6_address": TEXT,
        "link_local_ips": TEXTS,
        "mac_address": TEXT,
        "driver_opts": OPTIONS,
        "priority": Scalar(("number",), cast="integer"),
        "gw_priority": Scalar(("number",), cast="integer"),
    }
)

PORT = Either(
    (
        Scalar(("number", "string")),
        Keys(
            {
                "name": TEXT,
                "mode": TEXT,
                "host_ip": TEXT,
                "target": INTEGER,
                "published": Scalar(("string", "integer")),
                "protocol": TEXT,
                "app_protocol": TEXT,
            }
        ),
    )
)

VOLUME_MOUNT = Either(
    (
        TEXT,
        Keys(
            {
                "type": Scalar(
                    ("string",),
                    among=("bind", "volume", "tmpfs", "cluster", "npipe", "image"),
                ),
                "source": TEXT,
                "target": TEXT,
                "read_only": BOOLEAN,
                "consistency": TEXT,
                "bind": Keys(
                    {
                        "propagation": TEXT,
                        "create_host_path": BOOLEAN,
                        "recursive": Scalar(
                            ("string",),
                            among=("enabled", "disabled", "writable", "readonly"),
                        ),
                        "selinux": Scalar(("string",), among=("z", "Z")),
                    }
                ),
                "volume": Keys({"labels": LABELS, "nocopy": BOOLEAN, "subpath": TEXT}),
                "tmpfs": Keys(
                    {
                        "size": Scalar(("integer", "string"), minimum=0),
                        "mode": AMOUNT,
                    }
                ),
                "image": Keys({"subpath": TEXT}),
            },
            ("type",),
        ),
    )
)

DEVICE = Either(
    (
        TEXT,
        Keys({"source": TEXT, "target": TEXT, "permissions": TEXT}, ("source",)),
    )
)

_ENV_FILE = Keys(
    {"path": TEXT, "format": TEXT, "required": BOOLEAN}, ("path",), extensible=False
)

_SERVICE: dict[str, Shape] = {
    "annotations": LABELS,
    "attach": BOOLEAN,
    "blkio_config": BLKIO,
    "build": Either((TEXT, BUILD)),
    "cap_add": TEXTS,
    "cap_drop": TEXTS,
    "cgroup": Scalar(("string",), among=("host", "private")),
    "cgroup_parent": TEXT,
    "command": COMMAND,
    "configs": GRANTS,
    "container_name": Scalar(("string",), pattern="[a-zA-Z0-9][a-zA-Z0-9_.-]+"),
    "cpu_count": Scalar(("integer", "string"), cast="integer", minimum=0),
    "cpu_percent": Scalar(("number", "string"), cast="number", minimum=0, maximum=100),
    "cpu_period": AMOUNT,
    "cpu_quota": AMOUNT,
    "cpu_rt_period": AMOUNT,
    "cpu_rt_runtime": AMOUNT,
    "cpu_shares": NUMBER,
    "cpus": NUMBER,
    "cpuset": TEXT,
    "credential_spec": Keys({"config": TEXT, "file": TEXT, "registry": TEXT}),
    "depends_on": Either((DISTINCT, MapOf(DEPENDENCY, keys=NAME))),
    "deploy": DEPLOY,
    "develop": DEVELOP,
    "device_cgroup_rules": DISTINCT,
    "devices": ListOf(DEVICE),
    "dns": ONE_OR_MORE,
    "dns_opt": TEXTS,
    "dns_search": ONE_OR_MORE,
    "domainname": TEXT,
    "entrypoint": COMMAND,
    "env_file": Either((TEXT, ListOf(Either((TEXT, _ENV_FILE))))),
    "environment": LABELS,
    "expose": ListOf(Scalar(("string", "number"))),
    "extends": Either((TEXT, Keys({"service": TEXT, "file": TEXT}, extensible=False))),
    "external_links": DISTINCT,
    "extra_hosts": HOSTS,
    "gpus": Either(
        (Scalar(("string",), among=("all",)), ListOf(Keys(_DEVICE_REQUEST)))
    ),
    "group_add": ListOf(Scalar(("string", "number")), unique=True),
    "healthcheck": HEALTHCHECK,
    "hostname": TEXT,
    "image": TEXT,
    "init": BOOLEAN,
    "ipc": TEXT,
    "isolation": TEXT,
    "label_file": ONE_OR_MORE,
    "labels": LABELS,
    "links": TEXTS,
    "logging": Keys(
        {"driver": TEXT, "options": MapOf(Scalar(("string", "number", "null")))}
    ),
    "mac_address": TEXT,
    "mem_limit": AMOUNT,
    "mem_reservation": AMOUNT,
    "mem_swappiness": INTEGER,
    "memswap_limit": AMOUNT,
    "models": Either(
        (
            TEXTS,
            MapOf(
                Either((NOTHING, Keys({"endpoint_var": TEXT, "model_var": TEXT}))),
                keys=NAME,
            ),
        )
    ),
    "network_mode": TEXT,
    "networks": Either((TEXTS, MapOf(Either((NOTHING, ENDPOINT)), keys=NAME))),
    "oom_kill_disable": BOOLEAN,
    "oom_score_adj": Scalar(
        ("integer", "string"), cast="integer", minimum=-1000, maximum=1000
    ),
    "pid": Scalar(("string", "null")),
    "pids_limit": Scalar(("number", "string"), cast="integer"),
    "platform": TEXT,
    "ports": ListOf(PORT),
    "post_start": ListOf(HOOK),
    "pre_start": ListOf(PREPARATION),
    "pre_stop": ListOf(HOOK),
    "privileged": BOOLEAN,
    "profiles": TEXTS,
    "provider": Keys({"type": TEXT, "options": Anything()}, ("type",)),
    "pull_policy": Scalar(
        ("string",),
        pattern=(
            "always|never|build|if_not_present|missing|refresh|daily|weekly"
            "|every_([0-9]+[wdhms])+"
        ),
    ),
    "pull_refresh_after": TEXT,
    "read_only": BOOLEAN,
    "restart": TEXT,
    "runtime": TEXT,
    "scale": INTEGER,
    "secrets": GRANTS,
    "security_opt": DISTINCT,
    "shm_size": AMOUNT,
    "stdin_open": BOOLEAN,
    "stop_grace_period": TEXT,
    "stop_signal": TEXT,
    "storage_opt": Anything(),
    "sysctls": LABELS,
    "tmpfs": ONE_OR_MORE,
    "tty": BOOLEAN,
    "ulimits": ULIMITS,
    "use_api_socket": Scalar(("boolean",), cast="boolean"),
    "user": TEXT,
    "userns_mode": TEXT,
    "uts": TEXT,
    "volumes": ListOf(VOLUME_MOUNT),
    "volumes_from": DISTINCT,
    "working_dir": TEXT,
}
SERVICE = Keys(_SERVICE)
"""A service."""

NETWORK = Keys(
    {
        "name": TEXT,
        "driver": TEXT,
        "driver_opts": OPTIONS,
        "ipam": Keys(
            {
                "driver": TEXT,
                "config": ListOf(
                    Keys(
                        {
                            "subnet": TEXT,
                            "ip_range": TEXT,
                            "gateway": TEXT,
                            "aux_addresses": MapOf(TEXT),
                        }
                    )
                ),
                "options": MapOf(TEXT),
            }
        ),
        "external": EXTERNAL,
        "internal": BOOLEAN,
        "enable_ipv4": BOOLEAN,
        "enable_ipv6": BOOLEAN,
        "attachable": BOOLEAN,
        "labels": LABELS,
    }
)
VOLUME = Keys(
    {
        "name": TEXT,
        "driver": TEXT,
        "driver_opts": OPTIONS,
        "external": EXTERNAL,
        "labels": LABELS,
    }
)
_KEPT: dict[str, Shape] = {
    "name": TEXT,
    "environment": TEXT,
    "file": TEXT,
    "external": EXTERNAL,
    "labels": LABELS,
    "template_driver": TEXT,
}
SECRET = Keys({**_KEPT, "driver": TEXT, "driver_opts": OPTIONS})
CONFIG = Keys({**_KEPT, "content": TEXT})
MODEL = Keys(
    {
        "name": TEXT,
        "model": TEXT,
        "context_size": Scalar(("integer",), cast="integer"),
        "runtime_flags": ListOf(TEXT),
    },
    ("model",),
)
INCLUDE = Either(
    (
        TEXT,
        Keys(
            {"path": ONE_OR_MORE, "env_file": ONE_OR_MORE, "project_directory": TEXT},
            extensible=False,
        ),
    )
)

DOCUMENT = Keys(
    {
        "version": TEXT,
        "name": TEXT,
        "include": ListOf(INCLUDE),
        "services": MapOf(Either((NOTHING, SERVICE)), keys=NAME),
        "models": MapOf(MODEL, keys=NAME),
        "networks": MapOf(Either((NOTHING, NETWORK)), keys=NAME),
        "volumes": MapOf(Either((NOTHING, VOLUME)), keys=NAME),
        "secrets": MapOf(SECRET, keys=NAME),
        "configs": MapOf(CONFIG, keys=NAME),
    }
)
"""A compose file."""
