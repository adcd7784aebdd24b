"""Types of the template example/everything 1.0.0.
Written by `tasker-ctl generate types`, which writes over changes.

Needs Python 3.11 or newer.
"""

from typing import Any, Literal, NotRequired, TypeAlias, TypedDict


class Address(TypedDict):
    city: str
    street: str


class Person(TypedDict):
    """Somebody."""

    boss: NotRequired["Person"]
    friends: NotRequired[list["Person"]]
    home: NotRequired[Address]
    name: str


class ContextEmpty(TypedDict):
    """No other keys are allowed."""


class ContextLimits(TypedDict):
    """Further keys are allowed."""

    least: int


ContextMood: TypeAlias = Literal["good", "bad"]


ContextNote: TypeAlias = str | int | list[int]


ContextPaymentCardKind: TypeAlias = Literal["card"]


class ContextPaymentCard(TypedDict):
    card_number: str
    kind: ContextPaymentCardKind

    # Format: date.
    valid_until: NotRequired[str | None]


ContextPaymentTransferKind: TypeAlias = Literal["transfer"]


class ContextPaymentTransfer(TypedDict):
    amount: NotRequired[float]
    kind: ContextPaymentTransferKind


ContextPayment: TypeAlias = ContextPaymentCard | ContextPaymentTransfer


ContextPriority: TypeAlias = Literal["low", "high", "very high", ""]


# What a task is created with, defaults filled in.
# An order.
# In two lines, with */ and "quotes" and a \ backslash.
# No other keys are allowed.
Context = TypedDict(
    "Context",
    {
        "": NotRequired[bool],
        "Class": NotRequired[str],
        "anything": NotRequired[Any],
        "balance": NotRequired[int],
        # A word that is reserved
        "class": NotRequired[str],
        "customer": Person,
        "delivery": NotRequired[Address | None],
        "empty": NotRequired[ContextEmpty],
        # Always true.
        "flag": NotRequired[Literal[True]],
        "größe 1": NotRequired[float],
        "limits": NotRequired[ContextLimits],
        "mood": NotRequired[ContextMood | None],
        "note": NotRequired[ContextNote],
        "nothing": NotRequired[None],
        # Any JSON: what the schema says of it, no type can say.
        "odd": NotRequired[Any],
        # Its number.
        # Format: uuid.
        "order-id": str,
        # The items differ by their place, which no type says: each is any JSON.
        "pair": NotRequired[list[Any]],
        "payment": ContextPayment,
        "prices": NotRequired[dict[str, float]],
        # Default: "low".
        "priority": ContextPriority,
        "quantity": int,
        "serial": NotRequired[int],
        # One of 1, 2, 3.
        "size": NotRequired[Literal[1, 2, 3]],
        "tags": NotRequired[list[str]],
    },
)


class CheckResultLinesItem(TypedDict):
    count: NotRequired[int]
    sku: str


Tree: TypeAlias = dict[str, "Tree"]


class CheckResult(TypedDict):
    """What the step check returns."""

    lines: list[CheckResultLinesItem]
    total: Any
    tree: Tree


# What an instance of the step each-line returns.
EachLineResult: TypeAlias = str


class ApproveResult(TypedDict):
    """What the step approve returns."""

    by: str


class RestResult(TypedDict):
    """What the step rest returns."""

    # Format: date-time.
    fired_at: str


class PartResult(TypedDict):
    """What an instance of the step part returns."""

    rows: int


class Box(TypedDict):
    kg: float


# What the step ship returns.
ShipResult: TypeAlias = list[Box]


class EachLineInputs(TypedDict):
    """What an instance of the step each-line is given of its own."""

    # The element that is this instance's.
    item: CheckResultLinesItem

    # Its place among the instances, from 0.
    index: int

    # How many instances there are.
    total: int


class CutDependencies(TypedDict):
    """The results that the step cut is given, by the names of the steps."""

    rest: RestResult


class PartInputs(TypedDict):
    """What an instance of the step part is given of its own."""

    # The part of the work that is this instance's.
    cursor: Any

    # Its place among the instances, from 0.
    index: int

    # How many instances there are.
    total: int


class PartInstance(TypedDict):
    """How an instance of the step part ended."""

    # Why it failed.
    error: NotRequired[Any]

    # Its place among the instances, from 0.
    index: int

    # What it returned.
    result: NotRequired[PartResult]

    # Its state: complete, resolved_manually or error.
    status: str


# The results that the step ship is given, by the names of the steps.
ShipDependencies = TypedDict(
    "ShipDependencies",
    {
        # A reference in place of the list, where the results are too long together.
        "each-line": NotRequired[list[EachLineResult]],
        "approve": NotRequired[ApproveResult],
        # A reference in place of the list, where the results are too long together.
        "part": NotRequired[list[PartInstance]],
    },
)


class OrderShippedEvent(TypedDict):
    """What the event order.shipped says."""

    # Format: date-time.
    at: str
