"""The ranking modules, each used alone, inside a model that knows nothing of this package: DLRM, arXiv 1906.00091."""

import torch
from torch import nn
from torch.nn import functional

from qarm_features.ranking import SemanticIDEmbedding
from qarm_features.ranking.modules.behavior_match import BehaviorMatch
from qarm_features.ranking.modules.content_id_contrastive import content_id_contrastive_loss
from qarm_features.ranking.modules.content_interest import ContentInterest

DIM = 8


class StrangerDLRM(nn.Module):
    """DLRM: user and item embeddings and a dense vector, their pairwise dot products, an MLP on top."""

    def __init__(self, num_users: int, num_items: int, *, with_modules: bool) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(num_users, DIM), nn.Embedding(num_items, DIM)
        self.with_modules = with_modules
        num_vectors, num_dense = 2, 0
        if with_modules:
            self.codes = SemanticIDEmbedding(2, 4, DIM, pooling="sum")
            self.match = BehaviorMatch(2)
            self.interest = ContentInterest(DIM, DIM, num_heads=2, rank=2)
            num_vectors, num_dense = 4, self.match.num_features
        pairs = num_vectors * (num_vectors - 1) // 2
        self.top = nn.Sequential(nn.Linear(num_vectors * DIM + pairs + num_dense, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, user, item, behavior, mask, *, codes, content):
        vectors, dense = [self.user(user), self.item(item)], []
        if self.with_modules:
            vectors += [self.codes(codes[item]), self.interest(content[item], content[behavior], mask)]
            dense.append(self.match(codes[item], codes[behavior], mask).features)
        stacked = torch.stack(vectors, dim=1)
        first, second = torch.triu_indices(len(vectors), len(vectors), offset=1)
        products = (stacked @ stacked.transpose(1, 2))[:, first, second]
        return self.top(torch.cat([stacked.flatten(1), products, *dense], dim=1)).squeeze(1)


def planted_toy():
    """A user clicks what shares its behaviors' first code, among 64 items of 4 first codes."""
    codes = torch.stack([torch.arange(64) % 4, torch.arange(64) // 4 % 4], dim=1)
    content = functional.normalize(torch.randn(4, DIM)[codes[:, 0]] + 0.1 * torch.randn(64, DIM))
    user, item = torch.randint(0, 200, (512,)), torch.randint(0, 64, (512,))
    behavior = torch.randint(0, 16, (512, 5)) * 4 + (user % 4).unsqueeze(1)
    mask = torch.arange(5) < torch.randint(1, 6, (512, 1))
    return codes, content, (user, item, behavior, mask), (codes[item, 0] == user % 4).float()


def held_out_loss(*, with_modules: bool) -> float:
    torch.manual_seed(0)
    codes, content, rows, clicked = planted_toy()
    model = StrangerDLRM(200, 64, with_modules=with_modules)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=0.02)
    train, test = [part[:384] for part in rows], [part[384:] for part in rows]
    for _ in range(40):
        loss = functional.binary_cross_entropy_with_logits(model(*train, codes=codes, content=content), clicked[:384])
        if with_modules:
            item = train[1]
            loss = loss + 0.1 * content_id_contrastive_loss(content[item], model.item(item), item_index=item)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        logits = model(*test, codes=codes, content=content)
    return functional.binary_cross_entropy_with_logits(logits, clicked[384:]).item()


def test_a_strangers_dlrm_predicts_clearly_better_with_the_modules():
    with_modules = held_out_loss(with_modules=True)

    without = held_out_loss(with_modules=False)

    assert with_modules < 0.5 * without
    assert with_modules < 0.1  # a constant guess of the click rate, 1/4, costs 0.56; the other model overfits beyond it
