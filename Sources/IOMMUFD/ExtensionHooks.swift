// SPDX-License-Identifier: Apache-2.0

// The hooks through which an extension takes part in /dev/iommu.
//
// An extension is an interface that was proposed for Linux and never merged, or one of the
// simulator's own (docs/extensions.md). No file of the core names an extension: the core calls the
// hooks below, the folder Extensions implements them, and the machine installs them as an
// `ExtensionSet`. Without an extension a context has an empty list of hooks. Translations have no
// hooks.

internal import IOMMU
internal import SystemPackage
internal import UAPI

/// The extensions of one machine, as its node /dev/iommu and its contexts get them.
package struct ExtensionSet: Sendable {
  package static let none = ExtensionSet()

  /// The handlers of commands of uapi/iommufd_sim.h that the extensions add.
  var handlers: [IoctlHandler] = []
  /// One per extension with hooks.
  var hooks: [HooksMaker] = []

  /// Makes the hooks of an extension for a new context.
  struct HooksMaker: Sendable {
    let make: @Sendable () -> any ExtensionHooks
  }
}

/// The part of one extension in one context. The context owns the object for its whole life. State
/// of the object is guarded by the context's lock. Every hook has a default, which does nothing.
protocol ExtensionHooks: AnyObject {
  // MARK: VFIO container commands

  /// The flags of the paging domains that an attach to the container makes after
  /// `VFIO_SET_IOMMU(type)`. `nil` when the extension has no such IOMMU type; when no extension has
  /// it, VFIO_CHECK_EXTENSION answers 0 and VFIO_SET_IOMMU fails with EINVAL.
  func automaticDomainFlags(ofContainerType type: UInt64) -> PagingDomainFlags?

  /// Executes a container ioctl that iommufd does not have. The context's lock is not held.
  /// - Returns: the result of the ioctl; `nil` when the extension does not have it either.
  func callContainer(
    _ request: IoctlNumber, argument: UInt64, client: any Client, on context: Context
  ) throws(Errno) -> Int32?

  // MARK: Objects

  /// Executes IOMMU_HWPT_INVALIDATE when the extension knows the form of the entries. The context's
  /// lock is not held; the caller is a user of `hwpt`.
  /// - Parameter handled: counts the entries that took effect, also when the call throws.
  /// - Returns: `false` when the entries are the driver's, which handles them.
  func invalidate(
    _ hwpt: NestedHWPT, _ entries: UserDataArray, handled: inout Int
  ) throws(Errno) -> Bool

  /// Called with the context's lock held before `device` is detached without PASID, and after it
  /// was moved to a HWPT of another IOAS.
  func deviceLeavesIOAS(_ device: BoundDevice)

  /// Called with the context's lock held when `device` is unbound.
  func deviceIsUnbound(_ device: BoundDevice)

  /// Called without the lock after the last reference to `context` is gone and its objects are
  /// destroyed.
  func contextIsReleased(_ context: Context)

  // MARK: The open file

  /// Whether read(2) and write(2) on the open /dev/iommu reach ``read(into:at:from:)`` and
  /// ``write(from:at:to:)``. Without such an extension the file has neither operation (EINVAL).
  var hasReadAndWrite: Bool { get }
  func read(
    into destination: UserBuffer, at offset: UInt64, from context: Context
  ) throws(Errno) -> Int
  func write(
    from source: UserBuffer, at offset: UInt64, to context: Context
  ) throws(Errno) -> Int
}

extension ExtensionHooks {
  func automaticDomainFlags(ofContainerType type: UInt64) -> PagingDomainFlags? { nil }

  func callContainer(
    _ request: IoctlNumber, argument: UInt64, client: any Client, on context: Context
  ) throws(Errno) -> Int32? { nil }

  func invalidate(
    _ hwpt: NestedHWPT, _ entries: UserDataArray, handled: inout Int
  ) throws(Errno) -> Bool { false }

  func deviceLeavesIOAS(_ device: BoundDevice) {}
  func deviceIsUnbound(_ device: BoundDevice) {}
  func contextIsReleased(_ context: Context) {}

  var hasReadAndWrite: Bool { false }

  func read(
    into destination: UserBuffer, at offset: UInt64, from context: Context
  ) throws(Errno) -> Int { throw .invalidArgument }

  func write(
    from source: UserBuffer, at offset: UInt64, to context: Context
  ) throws(Errno) -> Int { throw .invalidArgument }
}
