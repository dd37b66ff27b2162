"""Token-and-Duration Transducer loss on CPU (Xu et al. 2023, arXiv 2304.06795).

A TDT joint gives, at encoder frame t and after u tokens, two independent distributions: over the
next token (or blank) and over how many frames to skip with it. The loss is the negative log
probability of the target summed over all alignments, by the forward recursion of the paper's
section 3. NeMo's own two implementations need CUDA.

Here the recursion runs over t in Python and over batch and u in tensors. Tokens that skip no frame
would make it sequential in u as well; along one frame these arcs are a chain, so that a cumulative
sum turns them into a cumulative log-sum-exp.

    python tdt_loss.py --check
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

import torch

DURATIONS = (0, 1, 2, 3, 4)
# Stands in for log(0): finite, so that gradients of unreachable states are 0 and not NaN.
IMPOSSIBLE = -1.0e5


def arc_scores(
    joint: torch.Tensor, targets: torch.Tensor, blank: int, duration_count: int, sigma: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Split joint outputs into log probabilities of the arcs of the lattice.

    `joint` is [batch, frames, tokens + 1, vocabulary + 1 + durations]. Returns blank scores
    [batch, frames, tokens + 1], scores of the next target token [batch, frames, tokens] and
    duration scores [batch, frames, tokens + 1, durations]. `sigma` is the paper's logit
    under-normalisation (section 3.3): it makes alignments with more arcs, so shorter skips, cost.
    """
    tokens = torch.log_softmax(joint[..., :-duration_count], dim=-1) - sigma
    durations = torch.log_softmax(joint[..., -duration_count:], dim=-1)
    wanted = targets[:, None, :, None].expand(-1, joint.shape[1], -1, 1)
    emitted = torch.gather(tokens[:, :, :-1], 3, wanted).squeeze(3)
    return tokens[..., blank], emitted, durations


def departures(
    alpha: torch.Tensor, blank: torch.Tensor, emitted: torch.Tensor, durations: torch.Tensor
) -> torch.Tensor:
    """Scores that leave one frame, by duration: [batch, tokens + 1, durations].

    `alpha` and `blank` are [batch, tokens + 1], `emitted` [batch, tokens], `durations`
    [batch, tokens + 1, durations]. The entry at u arrives with u tokens: from u by blank, from
    u - 1 by a token.
    """
    leaving = alpha[:, :, None] + durations
    by_blank = leaving + blank[:, :, None]
    by_token = leaving[:, :-1] + emitted[:, :, None]
    by_token = torch.nn.functional.pad(by_token, (0, 0, 1, 0), value=IMPOSSIBLE)
    return torch.logaddexp(by_blank, by_token)


def forward_scores(
    blank: torch.Tensor,
    emitted: torch.Tensor,
    durations: torch.Tensor,
    values: Sequence[int],
) -> torch.Tensor:
    """Run the forward recursion over the arcs of `arc_scores`; `values` are the durations.

    Returns alpha [batch, frames, tokens + 1]: the log probability of reaching frame t with u
    tokens emitted.
    """
    batch, frames, width = blank.shape
    start = blank.new_full((batch, width), IMPOSSIBLE)
    start[:, 0] = 0.0
    # Sum of the zero-duration arcs from u = 0 up to u, along each frame.
    chain = torch.nn.functional.pad((emitted + durations[:, :, :-1, 0]).cumsum(2), (1, 0))
    alphas: list[torch.Tensor] = []
    leaving: list[torch.Tensor] = []
    for frame in range(frames):
        arrivals = [
            leaving[frame - value][:, :, index]
            for index, value in enumerate(values)
            if 0 < value <= frame
        ]
        arrived = torch.logsumexp(torch.stack(arrivals), 0) if arrivals else start
        offset = chain[:, frame]
        alphas.append(offset + torch.logcumsumexp(arrived - offset, 1))
        leaving.append(
            departures(alphas[-1], blank[:, frame], emitted[:, frame], durations[:, frame])
        )
    return torch.stack(alphas, 1)


def tdt_loss(
    joint: torch.Tensor,
    targets: torch.Tensor,
    frame_counts: torch.Tensor,
    token_counts: torch.Tensor,
    blank: int,
    durations: Sequence[int] = DURATIONS,
    sigma: float = 0.0,
) -> torch.Tensor:
    """Negative log probability of each target, [batch], in nats.

    `joint` [batch, frames, tokens + 1, vocabulary + 1 + durations] holds unnormalised scores,
    `targets` [batch, tokens] is int64 and padded with any valid id, `frame_counts` and
    `token_counts` [batch] are the true sizes. An alignment ends with a blank that lands exactly on
    the frame after the last. `durations` must begin with 0.
    """
    scores = arc_scores(joint.float(), targets, blank, len(durations), sigma)
    blank_scores, _, duration_scores = scores
    alpha = forward_scores(*scores, durations)
    row = torch.arange(joint.shape[0], device=joint.device)
    endings = []
    for index, value in enumerate(durations):
        if value == 0:
            continue
        last = frame_counts - value
        at = (row, last.clamp(min=0), token_counts)
        ending = alpha[at] + blank_scores[at] + duration_scores[(*at, index)]
        endings.append(ending.masked_fill(last < 0, IMPOSSIBLE))
    return -torch.logsumexp(torch.stack(endings), 0)


def enumerated_loss(
    joint: torch.Tensor, target: Sequence[int], blank: int, durations: Sequence[int]
) -> float:
    """The loss of one utterance by walking every alignment, for checking.

    `joint` is [frames, tokens + 1, vocabulary + 1 + durations]; exponential in its size.
    """
    frames = joint.shape[0]
    tokens = torch.log_softmax(joint[..., : -len(durations)], -1).tolist()
    skips = torch.log_softmax(joint[..., -len(durations) :], -1).tolist()

    def probability(frame: int, done: int) -> float:
        if frame >= frames:
            return 0.0
        total = 0.0
        for index, value in enumerate(durations):
            skip = skips[frame][done][index]
            if value > 0:
                arc = math.exp(tokens[frame][done][blank] + skip)
                finished = frame + value == frames and done == len(target)
                total += arc * (1.0 if finished else probability(frame + value, done))
            if done < len(target):
                arc = math.exp(tokens[frame][done][target[done]] + skip)
                total += arc * probability(frame + value, done + 1)
        return total

    return -math.log(probability(0, 0))


def check() -> float:
    """Compare with the enumeration on padded batches of tiny lattices; return the worst error."""
    generator = torch.Generator().manual_seed(7)
    vocabulary, frame_counts, token_counts = 3, [6, 4, 1, 5], [3, 2, 0, 0]
    shape = (4, max(frame_counts), max(token_counts) + 1, vocabulary + 1 + len(DURATIONS))
    joint = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    targets = torch.randint(vocabulary, (4, max(token_counts)), generator=generator)
    losses = tdt_loss(
        joint, targets, torch.tensor(frame_counts), torch.tensor(token_counts), vocabulary
    )
    losses.sum().backward()
    worst = 0.0
    for row, (frames, count) in enumerate(zip(frame_counts, token_counts, strict=True)):
        lattice = joint[row, :frames, : count + 1].detach()
        expected = enumerated_loss(lattice, targets[row, :count].tolist(), vocabulary, DURATIONS)
        loss = losses[row].item()
        worst = max(worst, abs(expected - loss))
        print(f"{frames} frames, {count} tokens: {loss:.6f}, all paths {expected:.6f}")
        beyond = joint.grad[row, frames:].abs().sum() + joint.grad[row, :, count + 1 :].abs().sum()
        if float(beyond) != 0.0 or not bool(torch.isfinite(joint.grad[row]).all()):
            raise SystemExit("gradient reaches the padding or is not finite")
    return worst


def main() -> None:
    """Run the check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", required=True)
    parser.parse_args()
    worst = check()
    print(f"worst difference {worst:.2e}")
    if worst > 1e-4:
        raise SystemExit("the loss disagrees with the enumeration")


if __name__ == "__main__":
    main()
