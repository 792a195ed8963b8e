"""A real fine-tune, if the test data are there: MiniLM on banking77, with its measured accuracies."""

import csv
import json
from functools import cache
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
import eckart  # noqa: E402
from support.real_data import PAIRS  # noqa: E402
from support.tuned_models import Tuned, by_hand, load_peft  # noqa: E402

PAIR = PAIRS / "minilm-banking77"
needs_pair = pytest.mark.skipif(not PAIR.is_dir(), reason="the pair is not among the test data")

# rule, parameters, energy in %, accuracy in %: the table of the pair's README
TABLE = {
    "rank 8": ({"rank": 8}, 341_608, 39, 53.0),
    "rank 16": ({"rank": 16}, 683_216, 58, 87.0),
    "rank 32": ({"rank": 32}, 1_366_432, 74, 91.2),
    "budget 341.6k": ({"budget": "341.6k"}, 341_600, 51, 72.1),
    "budget 683.2k": ({"budget": "683.2k"}, 683_200, 63, 85.0),
    "budget 1.37M": ({"budget": "1.37M"}, 1_370_000, 75, 91.1),
}


@cache
def questions():
    """Return (ids, class) of the test set, short ones first so that a batch needs little padding."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(PAIR / "base")
    classes = json.loads((PAIR / "data" / "categories.json").read_text())
    with (PAIR / "data" / "test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    ids = tokenizer([row["text"] for row in rows], truncation=True, max_length=48)["input_ids"]
    pairs = [(one, classes.index(row["category"])) for one, row in zip(ids, rows, strict=True)]
    return sorted(pairs, key=lambda pair: len(pair[0]))


@torch.no_grad()
def logits(model, batch):
    width = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([one + [0] * (width - len(one)) for one, _ in batch])
    mask = torch.tensor([[1] * len(one) + [0] * (width - len(one)) for one, _ in batch])
    return model(input_ids=ids, attention_mask=mask).logits


def accuracy(model):
    """Return the share of the test set that is classified correctly, in %."""
    right = 0
    for start in range(0, len(questions()), 128):
        batch = questions()[start : start + 128]
        right += int((logits(model, batch).argmax(-1) == torch.tensor([c for _, c in batch])).sum())
    return 100 * right / len(questions())


@cache
def models():
    load = transformers.AutoModelForSequenceClassification.from_pretrained
    both = [load(PAIR / side, dtype=torch.float32).eval() for side in ("base", "tuned")]
    return Tuned(PAIR / "base", PAIR / "tuned", *both)


@needs_pair
@pytest.mark.parametrize("name", TABLE)
def test_the_accuracy_of_each_rule(name, tmp_path):
    rule, parameters, energy, expected = TABLE[name]
    done = eckart.extract(PAIR / "base", PAIR / "tuned", tmp_path / "a", **rule)
    assert len(done.plan.ranks) == 38  # 36 in the layers, the pooler and the classifier
    if "rank" in rule:
        assert len(done.adapter) == 38
        assert done.statement.parameters == parameters
    else:  # the cheapest component, of the classifier, has 77 + 384 parameters; fewer may be left over
        assert parameters - 461 < done.statement.parameters <= parameters
    assert 100 * done.plan.energy == pytest.approx(energy, abs=1)
    assert eckart.verify(PAIR / "base", PAIR / "tuned", tmp_path / "a").holds

    loaded = load_peft(models().fresh_base(), tmp_path / "a")
    sample = questions()[:: len(questions()) // 64][:64]
    torch.testing.assert_close(
        logits(loaded, sample), logits(by_hand(models(), tmp_path / "a"), sample), rtol=0, atol=1e-4
    )
    # One point of 3,080 questions is 31 answers: twice the standard error at 90 %.
    measured = accuracy(loaded.merge_and_unload())
    print(f"{name}: {measured:.2f} %, energy {100 * done.plan.energy:.2f} %")  # shown by -rP
    assert measured == pytest.approx(expected, abs=1)


def test_the_page_states_these_numbers():
    page = " ".join((Path(__file__).parents[2] / "docs" / "ranks.md").read_text("utf-8").split())
    won = TABLE["budget 341.6k"][3] - TABLE["rank 8"][3]
    lost = TABLE["rank 16"][3] - TABLE["budget 683.2k"][3]
    assert (
        f"the budget was {won:.0f} points of accuracy better than a uniform rank at 342 k parameters, "
        f"and {lost:.0f} points worse at 683 k" in page
    )
