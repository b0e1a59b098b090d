//! Per-layer sparsity of the pruned models that SkimCaffe published, in percent of zeros.

use super::LayerSparsity;

/// CaffeNet.
pub const CAFFENET: &[LayerSparsity] = &[
    ("conv2", 85.6455),
    ("conv3", 93.1),
    ("conv4", 91.808),
    ("conv5", 88.4903),
    ("fc6", 90.2809),
    ("fc7", 84.3741),
    ("fc8", 73.8236),
];

/// GoogLeNet; the heads loss1 and loss2 exist in `googlenet-aux` only.
pub const GOOGLENET: &[LayerSparsity] = &[
    ("inception_3a/5x5", 84.5625),
    ("inception_3b/5x5", 88.5482),
    ("inception_4a/5x5", 83.7604),
    ("inception_4b/5x5", 87.3958),
    ("inception_4c/5x5", 88.0052),
    ("inception_4d/5x5", 90.3867),
    ("inception_4e/5x5", 94.416),
    ("inception_5a/5x5", 93.3984),
    ("inception_5b/5x5", 94.8717),
    ("conv2/3x3", 81.6533),
    ("inception_3a/3x3", 90.0861),
    ("inception_3b/3x3", 90.4699),
    ("inception_4a/3x3", 87.968),
    ("inception_4b/3x3", 96.1057),
    ("inception_4c/3x3", 94.8968),
    ("inception_4d/3x3", 92.4134),
    ("inception_4e/3x3", 98.6999),
    ("inception_5a/3x3", 96.2437),
    ("inception_5b/3x3", 94.9538),
    ("loss1/fc", 97.9414),
    ("loss1/classifier", 93.5289),
    ("loss2/fc", 98.1798),
    ("loss2/classifier", 94.1971),
    ("loss3/classifier", 90.6519),
];

/// ResNet-50.
pub const RESNET_50: &[LayerSparsity] = &[
    ("res2a_branch2b", 88.0046),
    ("res2b_branch2b", 83.9708),
    ("res2c_branch2b", 80.7943),
    ("res3a_branch2b", 91.7562),
    ("res3b_branch2b", 91.9101),
    ("res3c_branch2b", 95.5024),
    ("res3d_branch2b", 91.1343),
    ("res4a_branch2b", 96.5534),
    ("res4b_branch2b", 97.4677),
    ("res4c_branch2b", 97.1471),
    ("res4d_branch2b", 96.7648),
    ("res4e_branch2b", 96.8435),
    ("res4f_branch2b", 96.8374),
    ("res5a_branch2b", 97.7809),
    ("res5b_branch2b", 98.0271),
    ("res5c_branch2b", 97.9203),
    ("fc1000", 91.5099),
];
