// SPDX-License-Identifier: Apache-2.0

// CMDQ-Virtualization of NVIDIA's Tegra241, an extension of its SMMUv3: command queues in addition
// to the unit's own, grouped in *virtual interfaces*, which can be assigned to guests. NVIDIA has
// published no specification. This folder follows Linux's driver (tegra241-cmdqv.c) and QEMU's
// model of the guest's side (hw/arm/tegra241-cmdqv.h).

package struct VirtualQueueCapabilities: Hashable, Sendable {
  package var isPresent = false
  /// PARAM.CMDQV_NUM_VINTF_LOG2: log2 of the number of interfaces. The first belongs to the host.
  package var interfaceBits = 6
  /// PARAM.CMDQV_NUM_VCMDQ_LOG2: log2 of the number of all queues. Every interface has the same
  /// number.
  package var queueBits = 7
  /// PARAM.CMDQV_NUM_SID_PER_VM_LOG2: log2 of the number of StreamIDs that one interface can
  /// replace.
  package var streamBits = 4
  /// PARAM.CMDQV_VER
  package var version: UInt8 = 1

  package init() {}

  /// log2 of the number of queues of one interface.
  package var queueBitsPerInterface: Int { queueBits - interfaceBits }
}

extension SMMUv3Unit.Configuration {
  /// The unit of a Tegra241, with virtual command queues and ATS.
  package static var tegra241: Self {
    var configuration = Self()
    configuration.virtualQueues.isPresent = true
    configuration.capabilities.ats = true
    return configuration
  }
}
