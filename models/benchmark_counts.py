"""Parameters of the networks. Loads PyTorch."""

from models.benchmark import Count
from models.networks.registry import build, find_network, parameter_count
from models.networks.reparam import fuse


def count(name: str) -> Count:
    """The network called ``name``, built for it; raises InputError where there is none."""
    network = build(name)
    training = parameter_count(network)
    return Count(name, training, parameter_count(fuse(network)), find_network(name).published_parameters)
