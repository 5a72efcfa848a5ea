// SPDX-License-Identifier: Apache-2.0

// The extensions of /dev/iommu: interfaces that were proposed for Linux and never merged, for tools
// that were written against them, and one of the simulator's own. Each is off unless the machine
// description enables it. An enabled extension adds commands or forms of commands, which
// uapi/iommufd_sim.h declares and docs/extensions.md specifies. Each has a folder here, which
// implements `ExtensionHooks`.

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

/// The extensions that a machine description enables, with their settings.
package struct Extensions: Sendable, Equatable {
  package enum Name: String, CaseIterable, Sendable {
    /// Yi Liu and Lu Baolu, December 2023: "iommu/vt-d: Add iotlb flush for nested domain".
    case vtdInvalidationErrors = "vtd-invalidation-errors"
    /// Yi Liu, 2020: "vfio: expose virtual Shared Virtual Addressing to VMs".
    case vfioSVA = "vfio-sva"
    /// The simulator's own, for the CUSE front end, through which nothing can be mapped.
    case registerCalls = "register-calls"

    package var summary: String {
      switch self {
      case .vtdInvalidationErrors:
        "IOMMU_HWPT_INVALIDATE reports time-outs and errors of a VT-d unit (proposed in 2023)"
      case .vfioSVA:
        "VFIO_IOMMU_PASID_REQUEST, _BIND and _CACHE_INVALIDATE on an iommufd (proposed in 2020)"
      case .registerCalls:
        "pread and pwrite on an iommufd reach the registers that could be mapped from it"
      }
    }
  }

  package static let defaultPASIDQuota = 1000
  /// PASIDs have 20 bits, and PASID 0 is never allocated.
  package static let largestPASIDQuota = 1 << 20 - 1

  package var enabled: Set<Name>
  /// The PASIDs that one process may have at a time, with ``Name/vfioSVA``.
  package var pasidQuota = Self.defaultPASIDQuota

  package init(_ enabled: Set<Name> = []) { self.enabled = enabled }

  /// The vIOMMU type that ``Name/vtdInvalidationErrors`` adds to VT-d drivers; `nil` without it.
  package var vtdVirtualIOMMU: VTdDriver.VirtualIOMMUType? {
    enabled.contains(.vtdInvalidationErrors) ? VTdVirtualIOMMU.type : nil
  }
}

extension ExtensionSet {
  /// Makes what the contexts of one machine share.
  package init(_ extensions: Extensions) {
    self.init()
    if extensions.enabled.contains(.vtdInvalidationErrors) {
      handlers.append(InvalidationFailureCommand.handler)
      hooks.append(.init { InvalidationErrors() })
    }
    if extensions.enabled.contains(.vfioSVA) {
      let space = PASIDSpace(quota: extensions.pasidQuota)
      hooks.append(.init { SharedVirtualAddressing(space) })
    }
    if extensions.enabled.contains(.registerCalls) { hooks.append(.init { RegisterCalls() }) }
  }
}
