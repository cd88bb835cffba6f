"""
Clients and registries, against the distribution specification and the tests of others.

The data says what a registry does and what is to come of it; the server that does it is
`jailbox.testing.Registry`. Names of habits are ours for ours, or translated here.
"""

import json
from typing import Any

import attrs
import pytest

from jailbox.errors import JailboxError
from jailbox.registry.client import Client
from jailbox.registry.credentials import Keychain, Login
from jailbox.registry.pull import pull
from jailbox.registry.push import copy, push
from jailbox.spec.platform import Platform
from jailbox.spec.reference import Reference
from jailbox.testing import Habits, Registry
from tests.registries import Made, Shelf, index_of, make, put

USER, PASSWORD = "user", "s3cr3t-of-the-case"
AMD64 = "linux/amd64"

# What the suite calls otherwise than we do.
TRANSLATED = {"upload_500": "failures"}


def habits_of(behave: dict[str, Any]) -> Habits:
    """Read the habits of a case."""
    ours = {TRANSLATED.get(name, name): value for name, value in behave.items()}
    unknown = set(ours) - {each.name for each in attrs.fields(Habits)}
    if unknown:
        pytest.fail(f"habits that our registry does not have: {sorted(unknown)}")
    return Habits(**ours)


def image_of(kind: str, big: int) -> Made:
    """Make an image of a kind that cases name."""
    match kind:
        case "simple":
            return make(big=big)
        case "docker":
            return make(docker=True, big=big)
        case "empty-config":
            return make(config=b"{}")
        case "dup-layer":
            return make(twice=True)
        case "huge-manifest":
            padding = "x" * (4 << 20)
            return make(extra={"annotations": {"padding": padding}})
        case "index" | "docker-list":
            docker = kind == "docker-list"
            names = (AMD64, "linux/arm64", "linux/arm/v7")
            images = {name: make(docker=docker, platform=name) for name in names}
            return index_of(images, docker=docker)
        case "nested":
            return index_of({"": index_of({AMD64: make(platform=AMD64)})})
    pytest.fail(f"no such kind of image is known: {kind}")


def lose(registry: Registry, name: str, made: Made, what: str) -> None:
    """Take something out of a registry."""
    repository = registry.content.at(name)
    if what == "tag":
        repository.tags.clear()
        return
    for _, data in made.documents.values():
        document = json.loads(data)
        lost = document.get("layers", []) if what == "layer" else [document["config"]]
        for each in lost:
            repository.blobs.pop(each["digest"], None)


def client_of(registry: Registry, auth: str | None) -> Client:
    """Make the client of a case: a user, a user with a wrong password, or nobody."""
    password = {"user": PASSWORD, "wrong": "wrong"}.get(auth or "")
    logins = {} if password is None else {registry.address: Login(USER, password)}
    return Client(endpoints=registry.endpoints, keychain=Keychain(logins))


def play(scenario: dict[str, Any], registry: Registry, client: Client) -> None:
    """Do what a case says, and look at what came of it."""
    name = scenario.get("repo", "group/base")
    reference = Reference.parse(f"{registry.address}/{name}:1")
    if scenario["op"] == "tags":
        tags = [f"tag-{n:03}" for n in range(scenario["tags"])]
        repository = registry.content.at(name)
        repository.tags.update(dict.fromkeys(tags, "sha256:" + "0" * 64))
        assert list(client.tags(reference)) == tags
        return
    made = image_of(scenario.get("image", "simple"), scenario.get("big", 0))
    if scenario["op"] == "push":
        for _ in range(scenario.get("times", 1)):
            push(client, made.top, made, reference)
        held = registry.content.at(name)
        assert {str(digest) for digest in made.blobs} == set(held.blobs)
        assert {str(digest) for digest in made.documents} == set(held.manifests)
        assert held.tags == {"1": str(made.top.digest)}
        return
    put(registry, name, made)
    if "missing" in scenario:
        lose(registry, name, made, scenario["missing"])
    if scenario.get("by") == "digest":
        reference = attrs.evolve(reference, tag=None, digest=made.top.digest)
    platform = Platform.parse(scenario.get("platform", AMD64))
    shelf = Shelf()
    if scenario["op"] == "copy":
        copy(client, reference, attrs.evolve(reference, path="copied", digest=None))
        return
    pulled = pull(client, reference, shelf, platform=platform, insist=False)
    assert pulled.top == made.top
    for digest, data in shelf.blobs.items():
        assert made.blobs[digest] == data
    for layer in json.loads(pulled.manifest_data)["layers"]:
        assert layer["digest"] in {str(digest) for digest in shelf.blobs}


@pytest.mark.slow
@pytest.mark.collection("registry-cases")
def test_registry(case: dict[str, Any]) -> None:
    """A registry with the habits of the case gets, or refuses, what the case says."""
    scenario = case["scenario"]
    with (
        Registry(habits_of(scenario["behave"]), users={USER: PASSWORD}) as registry,
        client_of(registry, scenario.get("auth")) as client,
    ):
        failure = None
        try:
            play(scenario, registry, client)
        except JailboxError as error:
            failure = error
        if scenario["expect"] == "ok":
            assert failure is None
        elif scenario["expect"] == "refuse":
            assert failure is not None
            words = scenario.get("message", [""])
            text = str(failure).lower()
            assert any(word.lower() in text for word in words)
            assert PASSWORD not in text
        if most := scenario.get("max_requests"):
            assert len(registry.requests) + len(registry.elsewhere) <= most
