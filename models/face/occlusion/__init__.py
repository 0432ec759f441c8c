"""What is in front of a face: a hand, a microphone, a product, a glass.

A segment's face is learned in one layout: between which bounds every texel stays over some frames,
once the light is matched. A frame is laid out by its landmarks in the same way; what leaves its
bounds is evidence. Evidence that reaches in from the face's edge is in front of it, and so are
hands. What one frame alone shows is noise.

Modules, each built on those before: ``samples`` picks the frames to learn from; ``mesh`` and
``layout`` lay frames out; ``light`` matches their light; ``evidence`` judges what leaves its
bounds; ``hands`` finds hands; ``learning`` learns the bounds; ``persistence`` compares neighbouring
frames; ``window`` goes back into the frame; ``masks`` does all of it frame by frame; ``keeping``
puts what is in front back over a changed picture.
"""

from models.face.occlusion.hands import HandFinder
from models.face.occlusion.keeping import keep_occluders
from models.face.occlusion.learning import FaceStatistics
from models.face.occlusion.masks import CONTEXT, occlusion_masks
from models.face.occlusion.samples import SAMPLES, sample_numbers

__all__ = [
    "CONTEXT",
    "SAMPLES",
    "FaceStatistics",
    "HandFinder",
    "keep_occluders",
    "occlusion_masks",
    "sample_numbers",
]
