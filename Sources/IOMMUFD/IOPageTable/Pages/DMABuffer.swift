// SPDX-License-Identifier: Apache-2.0

// A dma-buf: memory whose exporter can take it back (iommufd: struct iopt_pages_dmabuf). A client
// maps it like a file. The pages are not charged and not pinned for users, and only devices can
// access them.
//
// When the exporter takes the memory back, every IOPTPages made from the buffer is revoked for
// good. Whether the buffer can be mapped again afterwards is another setting.

internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

/// An object that maps dma-bufs and has the locks that guard the mappings: a context.
protocol DMABufferImporter: AnyObject, Sendable {
  /// Unmaps `pages` in every domain. The importer's lock is not held.
  /// dma_buf_attach_ops::invalidate_mappings
  func invalidate(_ pages: IOPTPages)
}

final class DMABuffer: Sendable {
  private struct Attachment {
    weak var pages: IOPTPages?
    weak var importer: (any DMABufferImporter)?
  }

  private struct State {
    var isRevoked = false
    var attachments: [Attachment] = []
    /// The number of attachments at which those without pages are removed.
    var sweepAt = 64
  }

  /// In bytes, a multiple of the page size.
  let length: UInt64
  let memory: OwnedDescriptor
  private let state = Mutex(State())

  /// Allocates zeroed memory.
  init(length: UInt64) throws(Errno) {
    try FaultInjection.step()
    self.length = length
    memory = OwnedDescriptor(
      owning: try MemoryFile.create(name: "iommufd-sim dma-buf", length: length))
  }

  /// Lists `pages`, which map the buffer. Called with the importer's lock held.
  /// iommufd: iopt_map_dmabuf()
  /// - Throws: `.operationNotSupportedByDevice` (ENODEV) when the buffer is revoked.
  func attach(_ pages: IOPTPages, importer: any DMABufferImporter) throws(Errno) {
    let isAttached = state.withLock { state in
      guard !state.isRevoked else { return false }
      if state.attachments.count >= state.sweepAt {
        state.attachments.removeAll { $0.pages == nil }
        state.sweepAt = max(64, 2 * state.attachments.count)
      }
      state.attachments.append(Attachment(pages: pages, importer: importer))
      return true
    }
    guard isAttached else { throw .operationNotSupportedByDevice }
  }

  /// Makes every importer invalidate its mappings. Called without locks.
  /// dma_buf_invalidate_mappings()
  /// - Parameter isRevoked: whether later mappings of the buffer fail.
  func invalidateMappings(revoke isRevoked: Bool) {
    let attachments = state.withLock { state in
      state.isRevoked = isRevoked
      return state.attachments
    }
    for attachment in attachments {
      if let pages = attachment.pages { attachment.importer?.invalidate(pages) }
    }
  }
}
