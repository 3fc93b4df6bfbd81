"""What the training of the built-in pair stands on: runs that go on where they stopped."""

import pytest
import torch
from torch import nn

from training.run import Run

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
