// What no kernel has: designs from the API's history, for tools that were written against them, and what
// makes up for something that a transport lacks. Each is off unless the machine's description names it;
// then, and only then, it adds commands or forms of them (uapi/iommufd_sim.h, docs/extensions.md).

internal import UAPI

package struct Extensions: Sendable, Equatable {
  package enum Name: String, CaseIterable, Sendable {
    /// Yi Liu and Lu Baolu, December 2023: "iommu/vt-d: Add iotlb flush for nested domain".
    case vtdInvalidationErrors = "vtd-invalidation-errors"
    /// Yi Liu, 2020: "vfio: expose virtual Shared Virtual Addressing to VMs".
    case vfioSVA = "vfio-sva"
    /// Of our own, for CUSE, where nothing can be mapped.
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
  /// PASIDs have 20 bits, and 0 is nobody's.
  package static let largestPASIDQuota = 1 << 20 - 1

  package var enabled: Set<Name>
  /// PASIDs that one process may have at a time.
  package var pasidQuota = Self.defaultPASIDQuota

  package init(_ enabled: Set<Name> = []) { self.enabled = enabled }
}

/// What the extensions of one machine share between all its open files.
package struct ActiveExtensions: Sendable {
  package static let none = ActiveExtensions(Extensions())

  let reportsInvalidationErrors: Bool
  let hasRegisterCalls: Bool
  /// The machine's PASIDs, with ``Extensions/Name/vfioSVA``.
  let pasids: PASIDSpace?

  package init(_ extensions: Extensions) {
    reportsInvalidationErrors = extensions.enabled.contains(.vtdInvalidationErrors)
    hasRegisterCalls = extensions.enabled.contains(.registerCalls)
    pasids =
      extensions.enabled.contains(.vfioSVA) ? PASIDSpace(quota: extensions.pasidQuota) : nil
  }

  /// Commands of uapi/iommufd_sim.h that are there because of them.
  var handlers: [IoctlHandler] {
    guard reportsInvalidationErrors else { return [] }
    return [IoctlHandler(.simVTdInvalidateFail, InvalidationFailureCommand.execute)]
  }
}
