"""What the training of the built-in pair stands on: runs that go on where they stopped."""

import random

import pytest
import torch
from torch import nn

from benchmarks.judge import Detector, Found, Judge, Sight, boxes
from benchmarks.scenes import KINDS as ASKED_KINDS
from benchmarks.scenes import drawn_prompts, shares
from bigsleep.models.generator import Generator
from training.detector import TABLE, judged_writer, questions, targets
from training.export import N_STATS, library_generator
from training.generator import Twin, emoji_config
from training.nouns import JUDGED, held_out, noun_of, plural, shown_by, with_article
from training.painting import NAMES, painted
from training.rendering import Laid
from training.run import Run
from training.scenes import KINDS, Writer

SECOND = 1 / 60  # in minutes


def run_of(path, minutes, report=lambda _: None):
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    parts = {"model": model, "optimizer": optimizer}
    return model, optimizer, Run(path, model, parts, optimizer, minutes, decay=0.9, warmup=20, report=report)


def train(model, optimizer, run):
    """Fit a sum; each step's share of the time, and the step sizes."""
    shares, rates = [], []
    for share in run:
        shares.append(share)
        rates.append(optimizer.param_groups[0]["lr"])
        x = torch.randn(16, 4)
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.tell(loss)
    return shares, rates


def test_a_run_ends_in_time_with_averaged_weights_and_a_small_step_size(tmp_path):
    model, optimizer, run = run_of(tmp_path / "run.pt", SECOND)
    shares, rates = train(model, optimizer, run)
    assert shares == sorted(shares) and 0.8 < shares[-1] < 1
    assert rates[0] == pytest.approx(0.1 / 20, rel=0.01) and max(rates) > 0.05 and rates[-1] < 0.02
    torch.testing.assert_close(run.average["weight"], torch.ones(1, 4), atol=0.1, rtol=0)


def test_it_goes_on_where_it_stopped(tmp_path):
    path, reports = tmp_path / "run.pt", []
    model, optimizer, first = run_of(path, SECOND / 4)
    train(model, optimizer, first)
    model, optimizer, second = run_of(path, SECOND / 2, reports.append)
    assert second.step == first.step
    torch.testing.assert_close(second.average, first.average)
    shares, _ = train(model, optimizer, second)
    assert shares[0] >= 0.5 and second.step == first.step + len(shares)
    assert reports == [second.average]


def test_a_finished_run_makes_no_more_steps(tmp_path):
    path = tmp_path / "run.pt"
    train(*run_of(path, SECOND / 4))
    shares, _ = train(*run_of(path, SECOND / 4))
    assert shares == []


# --- scenes


CONCEPTS = [
    {"label": label, "tags": [], "subgroup": group}
    for label, group in [
        ("dog face", "animal-mammal"), ("cat", "animal-mammal"), ("cat face", "animal-mammal"), ("owl", "animal-bird"),
        ("crown", "clothing"), ("glasses", "clothing"), ("scarf", "clothing"), ("red apple", "food-fruit"),
        ("mouse", "animal-mammal"), ("rocket", "transport-air"), ("house", "place-building"), ("guitar", "musical-instrument"),
    ]
]  # fmt: skip


@pytest.mark.parametrize("unseen", [False, True])
def test_scenes_keep_to_their_pairs_and_captions_say_what_is_there(unseen):
    writer = Writer(CONCEPTS, random.Random(0), unseen)
    # So few concepts have no held-out pairs of every kind.
    for kind in ("and", "left", "setting", "alone") if unseen else KINDS:
        scene = writer.write(kind)
        nouns = [writer.nouns[thing.concept] for thing in scene.things]
        assert all(held_out(a, b) == unseen for i, a in enumerate(nouns) for b in nouns[:i])
        for thing in scene.things:
            assert plural(thing.phrase).split()[-1] in scene.caption or thing.phrase in scene.caption


def test_a_sibling_differs_in_its_caption():
    writer = Writer(CONCEPTS, random.Random(1))
    scenes = [writer.write() for _ in range(200)]
    different = [writer.sibling(scene).caption != scene.caption for scene in scenes]
    assert sum(different) > 190


def test_left_right_above_and_below_are_where_the_caption_says():
    writer = Writer(CONCEPTS, random.Random(2))
    for _ in range(20):
        scene = writer.write("left")
        place = {which: x for which, x, _, _ in scene.places}
        first, second = (thing.phrase.split()[-1] for thing in scene.things)
        begins = scene.caption.index(first) < scene.caption.index(second)
        assert (place[0] < place[1]) and begins == ("left" in scene.caption)
        scene = writer.write("above")
        height = {which: y for which, _, y, _ in scene.places}
        assert height[0] < height[1]


def test_nouns_gather_what_a_reader_calls_alike():
    assert noun_of("cat face") == noun_of("black cat") == "cat" and "cat face" in shown_by("cat")
    assert shown_by("owl") == ("owl",) and held_out("owl", "cat") == held_out("cat", "owl")
    assert with_article("owl") == "an owl" and plural("two mouse") == "two mice"
    pairs = [held_out(a, b) for a in shown_by("dog") + shown_by("car") for b in shown_by("cat") + shown_by("heart")]
    assert 0.02 < sum(pairs) / len(pairs) < 0.2


def test_paint_shows_its_colour_and_leaves_the_outline():
    grey = torch.zeros(len(NAMES), 4, 8, 8)
    grey[:, :3, 2:6, 2:6], grey[:, 3, 2:6, 2:6] = 0.6, 1.0
    made = painted(grey, torch.arange(len(NAMES)), torch.zeros(len(NAMES)), torch.zeros(len(NAMES)))
    torch.testing.assert_close(made[:, 3], grey[:, 3])
    assert (made[:, :3] <= made[:, 3:] + 1e-6).all()
    shown = dict(zip(NAMES, made[:, :3, 4, 4], strict=True))
    assert shown["red"][0] > 2 * shown["red"][1] and shown["blue"][2] > 1.5 * shown["blue"][0]
    assert shown["white"].min() > 0.8 and shown["black"].max() < 0.3
    torch.testing.assert_close(painted(grey, torch.full((len(NAMES),), -1), *torch.zeros(2, len(NAMES))), grey)


def test_the_exported_generator_draws_what_was_trained():
    torch.manual_seed(0)
    config = emoji_config(5)
    twin = Twin(config).eval()
    for module in twin.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    config.n_stats = N_STATS
    state = library_generator({name: value.float() for name, value in twin.state_dict().items()}, config.channel_width)
    generator = Generator(config, state, alpha=True)
    noise, classes = torch.randn(3, 128), torch.eye(5)[:3]
    with torch.no_grad():
        trained = twin(noise, twin.codes.weight[:3])
        every = (-1, generator.stages, -1)
        exported = generator(noise[:, None].expand(every), classes[:, None].expand(every))
    assert exported.shape == (3, 4, 64, 64)
    torch.testing.assert_close(exported, trained, atol=0.03, rtol=0)


# --- the judge


def thing(noun, x, y, size=0.3, colour="red", sure=0.9):
    names = torch.full((len(JUDGED) + 1,), (1 - sure) / len(JUDGED))
    names[JUDGED.index(noun)] = sure
    return Found(0.9, names, (x, y, size, size), colour)


@pytest.fixture(scope="module")
def judge():
    return Judge(Detector(TABLE), TABLE)


@pytest.mark.parametrize(
    ("things", "asked", "right"),
    [
        ([thing("cat", 0.5, 0.5)], {"include": [{"class": "cat", "count": 1}]}, True),
        ([thing("cat", 0.5, 0.5, sure=0.02)], {"include": [{"class": "cat", "count": 1}]}, False),
        ([thing("cat", 0.5, 0.5)], {"include": [{"class": "cat", "count": 1}, {"class": "dog", "count": 1}]}, False),
        ([thing("cat", 0.2, 0.5), thing("dog", 0.8, 0.5)], {"include": [{"class": "cat", "count": 1}, {"class": "dog", "count": 1}]}, True),
        ([thing("cat", 0.5, 0.5)], {"include": [{"class": "cat", "count": 1, "color": "blue"}]}, False),
        ([thing("cat", 0.5, 0.5, colour="blue")], {"include": [{"class": "cat", "count": 1, "color": "blue"}]}, True),
        ([thing("cat", 0.2, 0.5)] * 3, {"include": [{"class": "cat", "count": 2}], "exclude": [{"class": "cat", "count": 3}]}, False),
        ([thing("cat", 0.2, 0.5)] * 2, {"include": [{"class": "cat", "count": 2}], "exclude": [{"class": "cat", "count": 3}]}, True),
    ],
)  # fmt: skip
def test_verdicts_follow_what_is_seen(judge, things, asked, right):
    assert judge.right(asked, Sight(things, "plain")) is right


def test_places_are_judged_by_geneval_s_rule(judge):
    sight = Sight([thing("cat", 0.2, 0.5), thing("dog", 0.8, 0.45)], "night")
    for place, right in (("left of", True), ("right of", False), ("above", False)):
        asked = {"include": [{"class": "dog", "count": 1}, {"class": "cat", "count": 1, "position": [place, 0]}]}
        assert judge.right(asked, sight) is right
    close = Sight([thing("cat", 0.5, 0.5), thing("dog", 0.54, 0.5)], "night")
    asked = {"include": [{"class": "dog", "count": 1}, {"class": "cat", "count": 1, "position": ["left of", 0]}]}
    assert not judge.right(asked, close)


def test_a_setting_is_part_of_what_is_asked(judge):
    asked = {"include": [{"class": "cat", "count": 1}], "setting": "night"}
    assert judge.right(asked, Sight([thing("cat", 0.5, 0.5)], "night"))
    assert not judge.right(asked, Sight([thing("cat", 0.5, 0.5)], "plain"))


def test_the_judge_looks_at_pictures_of_any_size(judge):
    for size in (128, 300):
        sights = judge.look(torch.rand(2, 3, size, size))
        assert len(sights) == 2 and all(sight.setting in TABLE["settings"] for sight in sights)


def test_targets_say_where_things_are():
    visible = torch.zeros(2, 128, 128)
    visible[0, 32:64, 16:80], visible[1, :, 100:] = 1, 1
    laid = Laid(torch.zeros(1, 3, 128, 128), torch.zeros(2, dtype=torch.long), torch.tensor([0, 1]), torch.tensor([-1, 4]),
                visible, torch.tensor([1.0, 0.1]))  # fmt: skip
    wanted = targets(laid, torch.tensor([3, 5]), torch.tensor([2, 2]))
    # The second is hidden but for a tenth.
    torch.testing.assert_close(wanted["box"], torch.tensor([[0.375, 0.375, 0.5, 0.25]]))
    assert wanted["at"].tolist() == [[0, 6, 6]] and wanted["heat"][0, 6, 6] == 1 and wanted["heat"].lt(1).sum() == 255
    assert wanted["noun"].tolist() == [3] and wanted["colour"].tolist() == [2]
    raw = torch.zeros(1, 4, 16, 16)
    torch.testing.assert_close(boxes(raw)[0, :, 2, 5], torch.tensor([5.5 / 16, 2.5 / 16, 0.5, 0.5]))


def test_the_exam_asks_for_what_is_shown_and_shows_something_else_besides():
    writer = judged_writer(CONCEPTS, random.Random(0), unseen=False, others=0.02)
    for asked, shown, wrong in questions(writer, 5):
        nouns = sorted(writer.nouns[part.concept] for part in shown.things)
        assert sorted(one["class"] for one in asked["include"]) == nouns
        assert shown != wrong and (asked["tag"] == "setting") == ("setting" in asked)


def test_prompts_are_drawn_by_a_seed_from_pairs_that_training_never_shows():
    nouns = [noun for noun in JUDGED if noun != "skis"]
    prompts = list(drawn_prompts(nouns, 20, seed=1))
    assert prompts == list(drawn_prompts(nouns, 20, seed=1)) != list(drawn_prompts(nouns, 20, seed=2))
    assert [sum(one["tag"] == kind for one in prompts) for kind in ASKED_KINDS] == [20] * 7
    for one in prompts:
        classes = [part["class"] for part in one["include"]]
        assert one["prompt"].startswith("a photo of ") and all(
            name in one["prompt"] or one["tag"] == "counting" for name in classes
        )
        assert len(classes) == 1 or held_out(*classes)
        assert "setting" not in one or held_out(classes[0], one["setting"])
        assert "color" not in one["include"][0] or "person" not in classes


def test_shares_are_means_over_kinds_with_their_intervals():
    kinds = ["single_object"] * 10 + ["counting"] * 10 + ["setting"] * 10
    figures = shares(kinds, [True] * 10 + [True] * 5 + [False] * 5 + [False] * 10)
    assert figures["overall"] == 0.75 and figures["kinds"]["setting"] == 0
    low, high = figures["intervals"]["overall"]
    assert 0.5 < low < 0.75 < high < 1 and figures["intervals"]["single_object"] == [1.0, 1.0]
