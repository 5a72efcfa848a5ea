// SPDX-License-Identifier: Apache-2.0

// The members in front of the trailing array of uAPI structs that end in an array. Swift cannot
// copy such a C struct as a whole. Members and their order are those of <linux/vfio.h>.

/// struct vfio_irq_set without its data.
struct IRQSetPrefix: BitwiseCopyable {
  var argsz: UInt32 = 0
  var flags: UInt32 = 0
  var index: UInt32 = 0
  var start: UInt32 = 0
  var count: UInt32 = 0
}

/// struct vfio_pci_hot_reset_info without its devices; struct vfio_pci_hot_reset without its
/// descriptors.
struct HotResetPrefix: BitwiseCopyable {
  var argsz: UInt32 = 0
  var flags: UInt32 = 0
  var count: UInt32 = 0
}

/// struct vfio_pci_dependent_device, an element of struct vfio_pci_hot_reset_info.
struct DependentDevice: BitwiseCopyable {
  var id: UInt32
  var segment: UInt16
  var bus: UInt8
  var deviceAndFunction: UInt8
}

/// struct vfio_device_feature without its data.
struct FeaturePrefix: BitwiseCopyable {
  var argsz: UInt32 = 0
  var flags: UInt32 = 0
}
